//! Jenkins' bad days, and how ks-devops' client sees them.

use serde::{Deserialize, Serialize};

use crate::clock::{Millis, Scale};
use crate::faults::glob;

/// What is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JenkinsFault {
    /// Connection refused.
    Down,
    /// Answers every call with this status and page.
    Status {
        /// HTTP status.
        code: u16,
        /// Body.
        body: String,
    },
    /// 503 `Please wait while Jenkins is getting ready to work`.
    Starting,
    /// Accepts the call, carries it out, and the connection breaks before the answer.
    AnswerLost,
    /// The connection breaks before the call is carried out.
    Reset,
    /// Sends so many bytes of a body, then the connection breaks.
    Truncate(u64),
    /// Answers only after so many milliseconds (nominal). A trigger counts only then; ks-devops gives up at 15 s and
    /// triggers again (finding F-A2). An artifact stalls after its first 64 KiB.
    Late(i64),
}

/// A fault and the calls it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JenkinsOutage {
    /// What is wrong.
    pub fault: JenkinsFault,
    /// Which calls: `trigger`, `run`, `nodes`, `steps`, `log`, `artifacts`, `artifact`, `stop`, `replay`, `input`,
    /// `branches`, `pipeline`, `scan`, `consolelog`, `delete`, `sync`, `proxy`; `*` stands for any characters.
    #[serde(default = "everything")]
    pub calls: String,
    /// For so many calls; `None`: until it is lifted.
    #[serde(default)]
    pub times: Option<u32>,
}

fn everything() -> String {
    "*".into()
}

impl JenkinsOutage {
    /// Until lifted, for every call.
    pub fn new(fault: JenkinsFault) -> Self {
        Self {
            fault,
            calls: everything(),
            times: None,
        }
    }

    /// Only for these calls.
    #[must_use]
    pub fn on(mut self, calls: &str) -> Self {
        self.calls = calls.into();
        self
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

/// A call that goes wrong, as the caller sees it.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    Refused,
    /// The connection breaks; the call was carried out or not.
    Reset {
        carried_out: bool,
    },
    Status {
        code: u16,
        body: String,
    },
    Truncated(u64),
    /// Real milliseconds until the answer begins.
    Late(Millis),
}

/// The outages in force.
#[derive(Debug, Default)]
pub(crate) struct Outages(Vec<JenkinsOutage>);

const STARTING: &str = "<html>Please wait while Jenkins is getting ready to work</html>";

impl Outages {
    pub(crate) fn add(&mut self, outage: JenkinsOutage) {
        self.0.push(outage);
    }

    pub(crate) fn lift(&mut self) {
        self.0.clear();
    }

    /// Nobody is there at all.
    pub(crate) fn is_down(&self) -> bool {
        self.0
            .iter()
            .any(|o| matches!(o.fault, JenkinsFault::Down) && o.calls == "*")
    }

    /// Whether the answer to this call breaks off; counts it if so.
    pub(crate) fn take_truncation(&mut self, call: &str) -> bool {
        let first = self.0.iter().find(|o| glob(&o.calls, call));
        let truncates = first.is_some_and(|o| matches!(o.fault, JenkinsFault::Truncate(_)));
        truncates && self.meet(call, Scale(1.0)).is_some()
    }

    /// The trouble this call meets, if any; counts it.
    pub(crate) fn meet(&mut self, call: &str, scale: Scale) -> Option<Trouble> {
        let position = self.0.iter().position(|o| glob(&o.calls, call))?;
        let outage = &mut self.0[position];
        let trouble = match &outage.fault {
            JenkinsFault::Down => Trouble::Refused,
            JenkinsFault::Status { code, body } => Trouble::Status {
                code: *code,
                body: body.clone(),
            },
            JenkinsFault::Starting => Trouble::Status {
                code: 503,
                body: STARTING.into(),
            },
            JenkinsFault::AnswerLost => Trouble::Reset { carried_out: true },
            JenkinsFault::Reset => Trouble::Reset { carried_out: false },
            JenkinsFault::Truncate(bytes) => Trouble::Truncated(*bytes),
            JenkinsFault::Late(ms) => Trouble::Late(scale.ms(*ms)),
        };
        if let Some(times) = &mut outage.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.0.remove(position);
            }
        }
        Some(trouble)
    }
}

impl Trouble {
    /// The error text of Go's HTTP client for a call that got no answer.
    pub(crate) fn go_error(&self, method: &str, url: &str) -> String {
        let mut verb = method.to_ascii_lowercase();
        if let Some(first) = verb.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let address = super::URL.trim_start_matches("http://");
        match self {
            Self::Refused => {
                format!(
                    "{verb} \"{}{url}\": dial tcp {address}: connect: connection refused",
                    super::URL
                )
            }
            Self::Late(_) => format!(
                "{verb} \"{}{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
                super::URL
            ),
            _ => format!(
                "{verb} \"{}{url}\": read tcp 127.0.0.1:41168->{address}: read: connection reset by peer",
                super::URL
            ),
        }
    }
}
