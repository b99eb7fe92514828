//! The race: `tenantry fetch` and curl fetch the same files from the same server by the same route into the same file
//! system, one after the other, again and again.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_test_support::bench::{
    Figure, Report, Samples, Target,
    memory::{Life, Watch, mib},
};

use crate::stage::{PASSWORD, PIPELINE, PROJECT, SUB_PATH, Stage};

/// The speed to reach, as part of curl's (design §7).
const SPEED: f64 = 0.9;
/// Files on their way at a time, unless a spec says otherwise. curl gets as many connections.
const PARALLEL: u8 = 4;

/// What is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    /// In figures.
    pub name: &'static str,
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub size: u64,
}

impl Files {
    /// One large file.
    pub const ONE: Self = Self {
        name: "1 GiB",
        count: 1,
        size: 1 << 30,
    };
    /// Many small ones.
    pub const MANY: Self = Self {
        name: "2,000 files of 10 KB",
        count: 2000,
        size: 10_000,
    };
    /// More large ones than may be on their way at a time.
    pub const LARGE: Self = Self {
        name: "32 files of 64 MiB",
        count: 32,
        size: 64 << 20,
    };

    /// As a build script has them.
    pub fn noise(self) -> impl Iterator<Item = String> {
        (0..self.count).map(move |number| format!("{}:{}", self.path(number), self.size))
    }

    fn path(self, number: usize) -> String {
        if self.count == 1 {
            "big.bin".into()
        } else {
            format!("f/{number:04}.bin")
        }
    }
}

/// Who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Tenantry,
    /// One process that keeps its connections, as many as tenantry has.
    Curl,
    /// The same, then what tenantry does besides: digests, and making sure that it stays.
    CurlAndDigests,
    /// One process with one connection.
    CurlOneByOne,
    /// What scripts do: a process for each file.
    CurlPerFile,
}

impl Runner {
    const ALL: [Self; 5] = [
        Self::Tenantry,
        Self::Curl,
        Self::CurlAndDigests,
        Self::CurlOneByOne,
        Self::CurlPerFile,
    ];

    fn of(files: Files) -> Vec<Self> {
        // With one file the last three are the same but for the digest.
        let all = Self::ALL.into_iter();
        all.filter(|runner| files.count > 1 || !matches!(runner, Self::CurlOneByOne | Self::CurlPerFile))
            .collect()
    }

    fn name(self, files: Files) -> &'static str {
        match self {
            Self::Tenantry => "tenantry fetch",
            Self::Curl if files.count == 1 => "curl",
            Self::Curl => "curl --parallel, as many connections",
            Self::CurlAndDigests => "the same, then sha256sum and sync",
            Self::CurlOneByOne => "curl, one process, one connection",
            Self::CurlPerFile => "curl, a process for each file",
        }
    }
}

/// A remote with files, and what is needed to fetch them.
pub struct Race {
    stage: Stage,
    files: Files,
    /// The measured program.
    program: PathBuf,
    /// Where all runners write.
    folder: TempDir,
    /// What curl is given.
    desk: TempDir,
}

impl Race {
    /// Builds once on a remote of its own and logs in for curl.
    pub async fn new(program: &Path, files: Files) -> Result<Self> {
        let noise: Vec<_> = files.noise().collect();
        let race = Self {
            stage: Stage::with_noise(&noise.join(",")).await,
            files,
            program: program.to_owned(),
            folder: TempDir::with_prefix("tenantry-bench-")?,
            desk: tempfile::tempdir()?,
        };
        race.prepare_curl()?;
        Ok(race)
    }

    /// Writes curl's configuration: the bearer, and what to fetch to where. Paths are relative to where it is run.
    fn prepare_curl(&self) -> Result<()> {
        let url = self.stage.simulator.url();
        let login = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                &format!("{url}/oauth/token"),
            ])
            .args(["--data", "grant_type=password&username=alice"])
            .args(["--data-urlencode", &format!("password={PASSWORD}")])
            .args(["--data", "client_id=kubesphere&client_secret=kubesphere"])
            .output()
            .context("curl cannot be run")?;
        ensure!(
            login.status.success(),
            "curl cannot log in: {}",
            String::from_utf8_lossy(&login.stderr)
        );
        let answer: Value = serde_json::from_slice(&login.stdout).context("no token")?;
        let token = answer["access_token"].as_str().context("no token")?;
        let common = format!(
            "silent\nshow-error\nno-progress-meter\nfail\nheader = \"Authorization: Bearer {token}\"\n"
        );
        fs::write(self.desk.path().join("common"), &common)?;
        let base = format!(
            "{url}/kapis/devops.kubesphere.io/v1alpha2/namespaces/{PROJECT}/jenkins/job/{PROJECT}/job/{PIPELINE}/{}/artifact",
            self.stage.number()
        );
        let (mut all, mut lines) = (String::new(), String::new());
        for number in 0..self.files.count {
            let path = self.files.path(number);
            all += &format!("url = \"{base}/{path}\"\noutput = \"{SUB_PATH}/{path}\"\n");
            lines += &format!("{base}/{path} {SUB_PATH}/{path}\n");
        }
        fs::write(self.desk.path().join("all"), common + "create-dirs\n" + &all)?;
        fs::write(self.desk.path().join("lines"), lines)?;
        Ok(())
    }

    fn command(&self, runner: Runner, folder: &Path) -> Command {
        let curl = |more: &str| format!("curl --config '{}/all' {more}", self.desk.path().display());
        let parallel = if self.files.count > 1 {
            format!("--parallel --parallel-max {PARALLEL}")
        } else {
            String::new()
        };
        let script = match runner {
            Runner::Tenantry => return self.tenantry(folder, PARALLEL),
            Runner::Curl => format!("exec {}", curl(&parallel)),
            Runner::CurlAndDigests => format!(
                "{} && find . -type f -print0 | xargs -0 sha256sum >sums && sync --file-system .",
                curl(&parallel)
            ),
            Runner::CurlOneByOne => format!("exec {}", curl("")),
            Runner::CurlPerFile => format!(
                "while read -r url file; do curl --config '{0}/common' --create-dirs --output \"$file\" \"$url\" || exit 1; \
                 done <'{0}/lines'",
                self.desk.path().display()
            ),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(folder);
        command
    }

    fn tenantry(&self, folder: &Path, parallel: u8) -> Command {
        let mut plan = self.stage.plan(&json!({"parallel": parallel}));
        plan["target"]["mountPath"] = json!(folder);
        // The most that a TenantConnection may allow.
        plan["gateway"]["limits"] = json!({"requestsPerSecond": 1000, "burst": 5000});
        self.stage.command(&self.program, &plan)
    }

    /// Lets somebody fetch everything into a folder of its own; seconds, and memory.
    fn run(&self, mut command: Command, folder: &Path) -> Result<(f64, Life)> {
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        let watch = Watch::begin(pid);
        let watching = std::thread::spawn(move || watch.to_the_end());
        let ended = child.wait_with_output()?;
        let seconds = begun.elapsed().as_secs_f64();
        let life = watching.join().unwrap_or_default();
        ensure!(
            ended.status.success(),
            "{command:?} failed: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
        for number in 0..self.files.count {
            let path = folder.join(SUB_PATH).join(self.files.path(number));
            let size = fs::metadata(&path)
                .with_context(|| path.display().to_string())?
                .size();
            ensure!(
                size == self.files.size,
                "{}: {size} bytes in place of {}",
                path.display(),
                self.files.size
            );
        }
        Ok((seconds, life))
    }

    /// An empty folder that no earlier runner's data is still being written out for.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder)?;
        let open = fs::File::open(&folder)?;
        rustix::fs::syncfs(&open)?;
        Ok(folder)
    }

    /// So many rounds in which each runs once, after one that does not count, in which what they fetched is compared.
    pub fn rounds(&self, rounds: usize, report: &mut Report) -> Result<()> {
        let runners = Runner::of(self.files);
        let (ours, theirs) = (self.fresh("ours")?, self.fresh("theirs")?);
        self.run(self.command(Runner::Tenantry, &ours), &ours)?;
        self.run(self.command(Runner::Curl, &theirs), &theirs)?;
        same(&ours, &theirs)?;
        fs::remove_dir_all(ours)?;
        fs::remove_dir_all(theirs)?;

        let mut times: Vec<(Runner, Samples)> = runners
            .iter()
            .map(|runner| (*runner, Samples::default()))
            .collect();
        let mut most = Life::default();
        for round in 0..rounds {
            // Whoever comes first has the same chance of a quiet machine as whoever comes last.
            let begin = round % times.len();
            times.rotate_left(begin);
            for (runner, samples) in &mut times {
                let folder = self.fresh("round")?;
                let (seconds, took) = self.run(self.command(*runner, &folder), &folder)?;
                samples.add(seconds);
                if *runner == Runner::Tenantry && took.resident_kib > most.resident_kib {
                    most = took;
                }
                fs::remove_dir_all(folder)?;
            }
        }
        self.tell(&runners, &times, most, report);
        Ok(())
    }

    fn tell(&self, runners: &[Runner], times: &[(Runner, Samples)], most: Life, report: &mut Report) {
        let files = self.files;
        let of = |wanted: Runner| {
            let found = times.iter().find(|(runner, _)| *runner == wanted);
            found.map(|(_, samples)| samples.clone()).unwrap_or_default()
        };
        println!(
            "{}: median of {} rounds (least to most)",
            files.name,
            of(Runner::Curl).count()
        );
        let ours = of(Runner::Tenantry);
        for runner in runners {
            let samples = of(*runner);
            println!(
                "  {:38} {:7.3} s  ({:.3} to {:.3})  {:.2} x the time of tenantry",
                runner.name(files),
                samples.median(),
                samples.least(),
                samples.most(),
                samples.median() / ours.median(),
            );
        }
        println!();
        let speed = |runner| self.amount() / of(runner).median();
        let (ours, unit) = (speed(Runner::Tenantry), self.unit());
        let figure = |what: &str| Figure::new(format!("{}: {what}", files.name), ours, unit);
        report.add(
            figure(&format!("speed, against {}", Runner::Curl.name(files)))
                .against(speed(Runner::Curl))
                .target(Target::RatioAtLeast(SPEED)),
        );
        for runner in &runners[2..] {
            report.add(figure(&format!("speed, against {}", runner.name(files))).against(speed(*runner)));
        }
        let time = of(Runner::Tenantry).median();
        report
            .add(Figure::new(format!("{}: time", files.name), time, "s").against(of(Runner::Curl).median()));
        report.add(resident(&format!("{}: fetch process", files.name), most));
    }

    /// One fetch with as many files on their way as a spec may ask for: memory.
    pub fn widest(&self, report: &mut Report) -> Result<()> {
        const MOST: u8 = 16;
        let folder = self.fresh("widest")?;
        let (_, life) = self.run(self.tenantry(&folder, MOST), &folder)?;
        fs::remove_dir_all(folder)?;
        report.add(resident(
            &format!("{}, {MOST} at a time: fetch process", self.files.name),
            life,
        ));
        Ok(())
    }

    /// Megabytes of a few large files, or the number of many small ones.
    #[allow(clippy::cast_precision_loss)]
    fn amount(&self) -> f64 {
        if self.files.count == 1 {
            self.files.size as f64 / 1e6
        } else {
            self.files.count as f64
        }
    }

    fn unit(&self) -> &'static str {
        if self.files.count == 1 { "MB/s" } else { "files/s" }
    }
}

/// The resident set at its peak, and what it may be at any size (design §7).
pub fn resident(whose: &str, life: Life) -> Figure {
    let name = format!("{whose}, peak RSS (VmHWM)");
    Figure::new(name, mib(life.resident_kib), "MiB").target(Target::ValueAtMost(32.0))
}

/// Checks that two folders have the same files, byte by byte.
fn same(one: &Path, other: &Path) -> Result<()> {
    let compared = Command::new("diff")
        .arg("--recursive")
        .args([one.join(SUB_PATH), other.join(SUB_PATH)])
        .output()?;
    ensure!(
        compared.status.success(),
        "curl and tenantry fetched other bytes: {}",
        String::from_utf8_lossy(&compared.stdout)
    );
    Ok(())
}
