//! The whole gateway client against the simulator: logins, both ways to start a run, ambiguity, branches, logs and
//! artifacts on each rung, watches, clusters. What it costs is counted in the simulator's ledger.

mod gateway_simulator {
    pub(crate) mod bench;
    mod bytes;
    mod places;
    mod runs;
    mod session;
    mod watch;
}
