//! The matrix: which write, in which scenario, on which rung, ends how. No I/O.

use std::fmt;

use tenantry::crash_points::Write;

/// How a run is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Created through `/apis` under a name that comes from the run token.
    ChosenName,
    /// Posted through kapis, with the run token in a parameter.
    Correlated,
    /// Posted through kapis, with nothing that tells it from an equal one.
    Plain,
}

impl Rung {
    pub const ALL: [Self; 3] = [Self::ChosenName, Self::Correlated, Self::Plain];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ChosenName => "chosen-name",
            Self::Correlated => "post-correlated",
            Self::Plain => "post",
        }
    }
}

/// What the user does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Nothing: the build succeeds, with a log and two files.
    Build,
    /// Changes the connection while it runs.
    Reconnect,
    /// Asks for other inputs and another destination of the files when it is over.
    Rerun,
    /// Wants the files on a volume, and then in a ConfigMap.
    Volume,
    /// Cancels it while it runs.
    Cancel,
    /// Deletes it while it runs; its policy is `Delete`.
    Delete,
    /// Nothing: it expires when it is over.
    Expire,
}

impl Scenario {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Reconnect => "reconnect",
            Self::Rerun => "rerun",
            Self::Volume => "volume",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
            Self::Expire => "expire",
        }
    }

    /// How many builds there must be in the end.
    pub const fn builds(self) -> usize {
        match self {
            Self::Rerun => 2,
            _ => 1,
        }
    }
}

/// How a write ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    KilledBefore,
    KilledAfter,
    RequestLost,
    AnswerLost,
    AnswerLate,
    Reset,
    HalfBody,
    Code500,
    Code503,
    Code429,
}

impl End {
    pub const ALL: [Self; 10] = [
        Self::KilledBefore,
        Self::KilledAfter,
        Self::RequestLost,
        Self::AnswerLost,
        Self::AnswerLate,
        Self::Reset,
        Self::HalfBody,
        Self::Code500,
        Self::Code503,
        Self::Code429,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::KilledBefore => "killed before",
            Self::KilledAfter => "killed after",
            Self::RequestLost => "request lost",
            Self::AnswerLost => "answer lost",
            Self::AnswerLate => "answer late",
            Self::Reset => "reset",
            Self::HalfBody => "half a body",
            Self::Code500 => "500",
            Self::Code503 => "503",
            Self::Code429 => "429",
        }
    }

    /// The side of the write on which the process dies.
    pub const fn kills(self) -> Option<&'static str> {
        match self {
            Self::KilledBefore => Some("before"),
            Self::KilledAfter => Some("after"),
            _ => None,
        }
    }

    /// Whether the operator has to wait until it gives the answer up.
    const fn is_slow(self) -> bool {
        matches!(self, Self::RequestLost | Self::AnswerLate)
    }
}

/// One cell of the matrix.
#[derive(Clone, Debug)]
pub struct Cell {
    pub write: Write,
    pub scenario: Scenario,
    pub rung: Rung,
    pub end: End,
    /// At the how manieth time the process dies.
    pub hit: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (write, scenario) = (self.write.name(), self.scenario.name());
        let (rung, end) = (self.rung.name(), self.end.name());
        write!(f, "{write}/{scenario}/{rung}/{end}/{}", self.hit)
    }
}

/// A write, where it is met, and at how many of its times in one build the process dies there in the long form.
struct Row(Write, Scenario, usize);

const ROWS: &[Row] = &[
    Row(Write::FinalizerSet, Scenario::Delete, 1),
    Row(Write::Intent, Scenario::Build, 1),
    Row(Write::Create, Scenario::Build, 1),
    Row(Write::Post, Scenario::Build, 1),
    Row(Write::Record, Scenario::Build, 1),
    Row(Write::Status, Scenario::Build, 4),
    Row(Write::Log, Scenario::Build, 1),
    Row(Write::LogRemoval, Scenario::Rerun, 1),
    Row(Write::Artifacts, Scenario::Build, 1),
    Row(Write::Files, Scenario::Build, 1),
    Row(Write::FilesRemoval, Scenario::Rerun, 1),
    Row(Write::FetchStatus, Scenario::Build, 1),
    Row(Write::Job, Scenario::Volume, 1),
    Row(Write::JobRemoval, Scenario::Volume, 1),
    Row(Write::Stop, Scenario::Cancel, 1),
    Row(Write::Stop, Scenario::Delete, 1),
    Row(Write::Delete, Scenario::Delete, 1),
    Row(Write::Settled, Scenario::Build, 1),
    Row(Write::Unsettled, Scenario::Rerun, 1),
    Row(Write::FinalizerGone, Scenario::Delete, 1),
    Row(Write::Expiry, Scenario::Expire, 1),
    Row(Write::Event, Scenario::Build, 2),
    Row(Write::ConnectionStatus, Scenario::Reconnect, 1),
];

/// Why a cell does not apply.
pub fn does_not_apply(cell: &Cell) -> Option<&'static str> {
    match (cell.write, cell.rung) {
        (Write::Create, Rung::Correlated | Rung::Plain) => Some("the run is posted on this rung"),
        (Write::Post, Rung::ChosenName) => Some("the run is created under its name on this rung"),
        _ => None,
    }
}

/// Every cell, of the long form.
pub fn long() -> Vec<Cell> {
    let mut cells = Vec::new();
    for Row(write, scenario, hits) in ROWS {
        for rung in Rung::ALL {
            for end in End::ALL {
                let hits = if end.kills().is_some() { *hits } else { 1 };
                cells.extend((1..=hits).map(|hit| Cell {
                    write: *write,
                    scenario: *scenario,
                    rung,
                    end,
                    hit,
                }));
            }
        }
    }
    cells
}

/// What CI does: each kill at the first time of each write; every other end of what starts a run and records it, but for
/// those that wait long; and of all the rest every so manieth cell, counted from `seed`.
pub fn short(seed: usize) -> Vec<Cell> {
    const ONE_OF: usize = 12;
    let starts = |write| matches!(write, Write::Create | Write::Post);
    let mut rest = seed;
    long()
        .into_iter()
        .filter(|cell| {
            if cell.end.kills().is_some() {
                return cell.hit == 1;
            }
            let slow = cell.end.is_slow();
            if starts(cell.write) || (cell.write == Write::Record && !slow) {
                return true;
            }
            rest += usize::from(!slow);
            !slow && rest.is_multiple_of(ONE_OF)
        })
        .collect()
}

/// The rows of the table: a write and where it is met.
pub fn rows() -> impl Iterator<Item = (Write, Scenario)> {
    ROWS.iter().map(|Row(write, scenario, _)| (*write, *scenario))
}

#[test]
fn no_write_is_forgotten() {
    for write in Write::ALL {
        assert!(
            rows().any(|(row, _)| row == *write),
            "{write:?} is in no row of the matrix"
        );
    }
    for form in [long(), short(0), short(7)] {
        for (write, side) in Write::ALL.iter().flat_map(|w| [(*w, "before"), (*w, "after")]) {
            let met = form.iter().any(|cell| {
                cell.write == write && cell.end.kills() == Some(side) && does_not_apply(cell).is_none()
            });
            assert!(met, "nobody dies {side} {write:?}");
        }
    }
}
