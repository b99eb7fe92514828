//! What goes wrong: with a call, with the connection, with the process.

/// What goes wrong with the next call to the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not carried out, and the caller cannot know.
    RequestLost,
    /// Carried out, and the caller cannot know.
    AnswerLost,
    /// Refused for the moment: certainly not carried out.
    Unavailable,
    /// A start is carried out so many seconds later, and the caller cannot know.
    Late(u8),
}

/// Which call a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The next one.
    Any,
    /// The next that changes something: a start, a stop, a removal. Most calls only look, and would take all faults.
    Change,
}

/// How the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// All well.
    Good,
    /// The password in the Secret is not the user's.
    WrongPassword,
    /// The gateway does not answer.
    Down,
}

/// When the process is killed: at the so manieth write or call from now, before or after it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    pub at: usize,
    pub after: bool,
    /// Seconds until the next process has its first look.
    pub away: u16,
}
