//! Asks a running node, over its control socket.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::socket;

/// A node answers from memory: one that takes longer is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer of a thousand peers has room in it.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// No node is at work in that data folder.
    NotRunning(PathBuf),
    /// There is a node, and so many ask it that it takes nobody more.
    Busy(PathBuf),
    /// There is a node, and it cannot be asked.
    Io(PathBuf, io::Error),
    /// What came is no answer.
    NoAnswer(PathBuf),
    /// The node refuses.
    Refused(String),
}

/// Calls a method of the node whose socket is at `path`.
///
/// # Errors
/// [`CallError`].
pub fn call(path: &Path, method: &str, params: &Value) -> Result<Value, CallError> {
    let told = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            CallError::NotRunning(path.into())
        }
        io::ErrorKind::WouldBlock => CallError::Busy(path.into()),
        _ => CallError::Io(path.into(), error),
    };
    let mut stream = socket::connect(path).map_err(told)?;
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut line = String::new();
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
        .and_then(|()| stream.write_all(request.to_string().as_bytes()))
        .and_then(|()| BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut line))
        .map_err(|error| CallError::Io(path.into(), error))?;
    let no_answer = || CallError::NoAnswer(path.into());
    let mut answer: Value = serde_json::from_str(&line).map_err(|_| no_answer())?;
    if let Some(why) = answer.pointer("/error/message").and_then(Value::as_str) {
        return Err(CallError::Refused(why.into()));
    }
    let result = answer.get_mut("result").ok_or_else(no_answer)?;
    Ok(result.take())
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotRunning(path) => write!(
                f,
                "no node is running: nobody listens at {} (is it the right --datadir?)",
                path.display()
            ),
            CallError::Busy(path) => write!(
                f,
                "{}: the node takes no more callers now: too many ask it, or it hangs",
                path.display()
            ),
            CallError::Io(path, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{}: permission denied: only the user that the node runs as may ask it",
                    path.display()
                )
            }
            CallError::Io(path, error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                let s = TIMEOUT.as_secs();
                write!(f, "{}: the node gave no answer in {s} s", path.display())
            }
            CallError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            CallError::NoAnswer(path) => {
                write!(f, "{}: what came is no answer of a node", path.display())
            }
            CallError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CallError {}
