//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{lease::LeaseTimes, shard::Shard, telemetry::LogFormat, watches::WatchScope};
use crate::{
    controllers::{
        Tunables,
        fetch_jobs::{Fetcher, PodTemplate},
    },
    fetcher::plan,
};

/// Declares builds to KubeSphere DevOps as its tenant.
#[derive(Debug, Parser)]
#[command(
    name = "tenantry",
    version,
    about,
    propagate_version = true,
    subcommand_required = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Operator(Box<OperatorOptions>),
    /// Print the CustomResourceDefinitions.
    Crds(CrdOptions),
    /// Bring a run's files or log onto a mounted volume; what fetch Jobs run.
    Fetch(FetchOptions),
}

/// What is logged, and how. Logs go to standard error.
#[derive(Args, Debug)]
pub struct LogOptions {
    /// How log lines look.
    #[arg(long, env = "TENANTRY_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// Log level, or a filter like `tenantry=debug,kube=warn`.
    #[arg(
        long,
        env = "TENANTRY_LOG_LEVEL",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log_level: String,
}

/// How to run the operator.
#[derive(Args, Debug)]
pub struct OperatorOptions {
    /// Watch this namespace; may be given several times. None: all namespaces.
    #[arg(
        long = "namespace",
        short,
        env = "TENANTRY_NAMESPACE",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub namespaces: Vec<String>,

    /// Look after the TenantConnections, BuildRequests and ArtifactFetches with these labels only: `key=value,…`, or a
    /// LabelSelector as JSON. What shares a connection or a pipeline has to have the same. None: all.
    #[arg(
        long,
        short = 'l',
        env = "TENANTRY_SELECTOR",
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    pub selector: Shard,

    /// Kubeconfig of the cluster to serve. None: the pod's own cluster, else the usual kubeconfig.
    #[arg(long, env = "TENANTRY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogOptions,

    /// Where /healthz and /readyz answer; port 0 takes a free one.
    #[arg(long, env = "TENANTRY_HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_address: SocketAddr,

    /// Where /metrics answers; port 0 takes a free one.
    #[arg(long, env = "TENANTRY_METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: SocketAddr,

    /// Write the addresses to this file as JSON, `{"health":"…","metrics":"…"}`, once they answer.
    #[arg(long, env = "TENANTRY_ADDRESS_FILE", value_name = "FILE")]
    pub address_file: Option<PathBuf>,

    /// How many objects of one kind are worked on at a time.
    #[arg(long, env = "TENANTRY_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// Image of the Jobs that bring files and logs onto volumes: the operator's own. None: there are no such Jobs.
    #[arg(long, env = "TENANTRY_FETCHER_IMAGE", value_name = "IMAGE")]
    pub fetcher_image: Option<String>,

    /// A partial pod template (YAML) that is laid over the pods of these Jobs: node selector, tolerations, pull secrets, …
    #[arg(long, env = "TENANTRY_FETCHER_POD_TEMPLATE", value_name = "FILE")]
    pub fetcher_pod_template: Option<PathBuf>,

    /// Which of several replicas acts.
    #[command(flatten)]
    pub lease: LeaseOptions,

    /// How long what is in flight may take after SIGTERM.
    #[arg(long, env = "TENANTRY_SHUTDOWN_GRACE", default_value = "20s", value_parser = duration)]
    pub shutdown_grace: Duration,

    /// Name of this process in Events and in the lease.
    #[arg(long, env = "TENANTRY_POD_NAME", default_value = "", hide = true)]
    pub pod_name: String,

    /// Set a time that has one right value in production, like `missing-grace=1s`.
    #[arg(long = "tune", env = "TENANTRY_TUNE", value_delimiter = ',', value_parser = tuning, hide = true)]
    pub tune: Vec<(String, Duration)>,
}

/// Which of several replicas acts.
#[derive(Args, Debug)]
pub struct LeaseOptions {
    /// Act only while holding a lease, so that several replicas can run: one acts, the others stand by.
    #[arg(
        long,
        env = "TENANTRY_LEADER_ELECT",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub leader_elect: bool,

    /// Name of the Lease. Replicas with the same one stand in for one another; each shard needs its own.
    #[arg(
        long,
        env = "TENANTRY_LEASE_NAME",
        default_value = "tenantry",
        value_name = "NAME"
    )]
    pub lease_name: String,

    /// Namespace of the Lease. None: the pod's own, or the kubeconfig's.
    #[arg(long, env = "TENANTRY_LEASE_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<String>,

    /// How long others wait for the holder to renew before they take over; whole seconds.
    #[arg(long, env = "TENANTRY_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,

    /// How long the holder writes after its last renewal; then it ends.
    #[arg(long, env = "TENANTRY_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub lease_renew_deadline: Duration,

    /// How often the holder renews, and the others look.
    #[arg(long, env = "TENANTRY_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub lease_retry_period: Duration,
}

impl LeaseOptions {
    /// The times of the lease.
    pub fn times(&self) -> anyhow::Result<LeaseTimes> {
        let times = LeaseTimes {
            duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry_period: self.lease_retry_period,
        };
        times.check().map_err(|why| {
            anyhow::anyhow!("--lease-duration, --lease-renew-deadline, --lease-retry-period: {why}")
        })
    }
}

impl OperatorOptions {
    /// Which namespaces to watch.
    pub fn scope(&self) -> WatchScope {
        let names: Vec<_> = self
            .namespaces
            .iter()
            .filter(|n| !n.is_empty())
            .cloned()
            .collect();
        if names.is_empty() {
            WatchScope::All
        } else {
            WatchScope::Namespaces(names)
        }
    }

    /// How the Jobs are run that fill volumes.
    pub fn fetcher(&self) -> anyhow::Result<Fetcher> {
        let image = self.fetcher_image.clone().filter(|image| !image.is_empty());
        let file = self.fetcher_pod_template.as_ref();
        let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
            return Ok(Fetcher {
                image,
                template: PodTemplate::default(),
            });
        };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--fetcher-pod-template: cannot read {}", file.display()))?;
        let template = PodTemplate::parse(&text)
            .map_err(|why| anyhow::anyhow!("--fetcher-pod-template: {}: {why}", file.display()))?;
        Ok(Fetcher { image, template })
    }

    /// The times, with what was tuned.
    pub fn tunables(&self) -> anyhow::Result<Tunables> {
        let mut tunables = Tunables::default();
        for (name, value) in &self.tune {
            tunables
                .set(name, *value)
                .map_err(|why| anyhow::anyhow!("--tune: {why}"))?;
        }
        Ok(tunables)
    }
}

/// How to print the CRDs.
#[derive(Args, Debug)]
pub struct CrdOptions {
    /// As what.
    #[arg(long, value_enum, default_value_t)]
    pub format: CrdFormat,

    /// Write one YAML file per kind into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "format")]
    pub out: Option<PathBuf>,
}

/// How to fetch.
#[derive(Args, Debug)]
pub struct FetchOptions {
    /// Read the plan from this file, and not from the environment variable TENANTRY_FETCH_PLAN.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,

    /// Where the credentials are mounted.
    #[arg(long, value_name = "DIR", default_value = plan::CREDENTIALS_DIR)]
    pub credentials: PathBuf,

    /// Write the outcome to this file too. None: where the kubelet looks for it, if that is there.
    #[arg(long, value_name = "FILE")]
    pub termination_message: Option<PathBuf>,

    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogOptions,
}

/// As what the CRDs are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CrdFormat {
    /// One stream of YAML documents, for `kubectl apply`.
    #[default]
    Yaml,
    /// The reference, for people.
    Markdown,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<crate::api::common::Duration>()
        .map(crate::api::common::Duration::get)
        .map_err(|why| format!("{why}; write it like 90s or 1m30s"))
}

fn tuning(text: &str) -> Result<(String, Duration), String> {
    let (name, value) = text.split_once('=').ok_or("write it like missing-grace=1s")?;
    Ok((name.to_owned(), duration(value)?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn operator(args: &[&str]) -> OperatorOptions {
        let args = ["tenantry", "operator"].iter().chain(args);
        match Cli::try_parse_from(args).expect("parses").command {
            Command::Operator(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_namespace_means_all() {
        assert_eq!(operator(&[]).scope(), WatchScope::All);
        let some = operator(&["--namespace", "a", "-n", "b,c"]).scope();
        assert_eq!(
            some,
            WatchScope::Namespaces(vec!["a".into(), "b".into(), "c".into()])
        );
    }

    #[test]
    fn a_pod_template_that_cannot_work_is_refused_with_its_file() {
        assert_eq!(operator(&[]).fetcher().unwrap(), Fetcher::default());
        assert_eq!(operator(&["--fetcher-image", ""]).fetcher().unwrap().image, None);
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        std::fs::write(path, "spec: {hostNetwork: true}").unwrap();
        let args = ["--fetcher-image", "img", "--fetcher-pod-template", path];
        let fetcher = operator(&args).fetcher().unwrap();
        assert_eq!(fetcher.image.as_deref(), Some("img"));
        assert_ne!(fetcher.template, PodTemplate::default());
        std::fs::write(path, "spec: {hostnetwork: true}").unwrap();
        let refused = operator(&args).fetcher().unwrap_err().to_string();
        assert!(
            refused.contains(path) && refused.contains("spec.hostnetwork"),
            "{refused}"
        );
        let gone = operator(&["--fetcher-pod-template", "/nowhere"])
            .fetcher()
            .unwrap_err();
        assert!(gone.to_string().contains("/nowhere"), "{gone}");
    }

    #[test]
    fn a_selector_is_checked_before_anything_starts() {
        assert_eq!(operator(&[]).selector, Shard::default());
        let query = |args: &[&str]| operator(args).selector.query();
        assert_eq!(query(&["-l", "shard=a"]).as_deref(), Some("shard=a"));
        assert!(Cli::try_parse_from(["tenantry", "operator", "--selector", "shard"]).is_err());
    }

    #[test]
    fn the_lease_is_off_unless_asked_for_and_its_times_are_those_of_client_go() {
        let options = operator(&[]).lease;
        assert!(!options.leader_elect);
        assert_eq!(options.times().unwrap(), LeaseTimes::default());
        assert!(operator(&["--leader-elect"]).lease.leader_elect);
        assert!(operator(&["--leader-elect=true"]).lease.leader_elect);
        assert!(!operator(&["--leader-elect=false"]).lease.leader_elect);
        let refused = operator(&["--lease-duration", "10s"]).lease.times().unwrap_err();
        assert!(
            refused.to_string().contains("--lease-renew-deadline"),
            "{refused}"
        );
    }

    #[test]
    fn times_are_tuned_by_name() {
        let tunables = operator(&["--tune", "log-interval=50ms", "--tune", "backoff-cap=1s"])
            .tunables()
            .unwrap();
        assert_eq!(tunables.log_interval, Duration::from_millis(50));
        assert_eq!(tunables.backoff_cap, Duration::from_secs(1));
        let refused = operator(&["--tune", "nothing=1s"]).tunables().unwrap_err();
        assert!(refused.to_string().contains("log-interval"), "{refused}");
        assert!(Cli::try_parse_from(["tenantry", "operator", "--tune", "log-interval"]).is_err());
    }
}
