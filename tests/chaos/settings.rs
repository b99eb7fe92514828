//! Size, seed and rates, by environment variables.

use std::{str::FromStr, time::Duration};

use tenantry_simulator::RandomFaults;

/// How much, how fast, how bad.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether this is the long form, which is told in the docs.
    pub long: bool,
    /// How many BuildRequests.
    pub builds: usize,
    /// How often the operator is killed.
    pub kills: usize,
    /// Of a thousand requests at the gateway, how many meet a fault.
    pub permille: u32,
    /// The most requests that an operator gets to send once it was ready: its life is measured by what it does, so that
    /// a slow machine kills at the same places as a quick one.
    pub requests: usize,
    /// The longest that it lives, whatever it sends.
    pub life: Duration,
    /// What all that is random comes from.
    pub seed: u64,
    /// How long all may take to settle once nothing is killed and no fault comes any more.
    pub settle: Duration,
}

impl Settings {
    /// The short form, but for what the environment says.
    pub fn from_env() -> Self {
        let builds = number("BUILDS", 36);
        Self {
            long: std::env::var("TENANTRY_RELIABILITY").as_deref() == Ok("long"),
            builds,
            kills: number("KILLS", 40),
            permille: number("FAULTS_PERMILLE", 30),
            requests: number("REQUESTS", 40),
            life: Duration::from_millis(number("LIFE_MS", 1_200)),
            seed: number("SEED", fastrand::u64(..)),
            settle: Duration::from_secs(number("SETTLE_SECONDS", 180 + builds as u64)),
        }
    }

    /// The command that does this.
    pub const fn command(&self) -> &'static str {
        if self.long {
            "make chaos"
        } else {
            "cargo test --workspace --features crash-points --test chaos"
        }
    }

    /// What the simulator is to do to requests.
    pub fn faults(&self) -> RandomFaults {
        RandomFaults {
            seed: self.seed,
            permille: self.permille,
            ..RandomFaults::default()
        }
    }
}

/// The value of `TENANTRY_CHAOS_…`; a value that is no number fails the test rather than being ignored.
pub fn number<T: FromStr>(name: &str, otherwise: T) -> T {
    let name = format!("TENANTRY_CHAOS_{name}");
    match std::env::var(&name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value:?} is not a number")),
        Err(_) => otherwise,
    }
}
