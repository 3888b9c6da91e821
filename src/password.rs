//! Where a password comes from: the first line of a file, or a terminal, without echo.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::config::{ConfigError, usage};
use crate::datadir::io_error;
use crate::secret::{Password, read_private};

/// A file of passwords, a line each as geth has them, is not longer: who passes one has another file in mind.
const FILE_LIMIT_BYTES: usize = 64 << 10;
/// Nobody types more.
const TYPED_LIMIT_BYTES: usize = 4096;

/// The password for `whose` key: the first line of `file`, or what is typed on the terminal, twice for a new one.
///
/// # Errors
/// `Usage` where there is neither file nor terminal, or where what was typed the second time is not the same; `Folder` for the file.
pub fn password(file: Option<&Path>, whose: &str, is_new: bool) -> Result<Password, ConfigError> {
    let password = match file {
        Some(path) => first_line(
            &read_private(path, "password file", FILE_LIMIT_BYTES)?,
            path,
        )?,
        None => typed(whose, is_new)?,
    };
    if is_new && password.bytes().is_empty() {
        log::warn!("The password is empty: whoever gets the key file has the key");
    }
    Ok(password)
}

fn first_line(text: &[u8], path: &Path) -> Result<Password, ConfigError> {
    if text.len() > FILE_LIMIT_BYTES {
        return Err(usage(format!(
            "--password {}: the file has more than {FILE_LIMIT_BYTES} bytes; is it the right one?",
            path.display()
        )));
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // Line ends of DOS, as geth takes them; spaces belong to the password.
    let end = line.iter().rposition(|byte| *byte != b'\r');
    Ok(Password::new(
        line[..end.map_or(0, |last| last + 1)].to_vec(),
    ))
}

fn typed(whose: &str, is_new: bool) -> Result<Password, ConfigError> {
    let mut terminal = io::stdin();
    if !terminal.is_terminal() {
        return Err(usage(format!(
            "the password for {whose} cannot be asked for, since standard input is no terminal; pass --password FILE"
        )));
    }
    let mut ask = |prompt: String| {
        read_hidden(&mut terminal, &prompt).map_err(|source| {
            ConfigError::Folder(io_error("read", Path::new("the terminal"), source))
        })
    };
    let first = ask(format!("Password for {whose}: "))?;
    if is_new && ask("Repeat the password: ".into())?.bytes() != first.bytes() {
        return Err(usage(
            "the two passwords are not the same; nothing was changed",
        ));
    }
    Ok(first)
}

/// Reads a line with the echo off. The prompt goes to standard error: standard output has the result.
///
/// Ctrl-C is read as the end of the line, and interrupts only when the terminal is as it was: it would be left without echo otherwise.
fn read_hidden(terminal: &mut io::Stdin, prompt: &str) -> io::Result<Password> {
    let before = tcgetattr(&*terminal)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    hidden.local_modes.remove(LocalModes::ISIG);
    let interrupt = before.special_codes[SpecialCodeIndex::VINTR];
    hidden.special_codes[SpecialCodeIndex::VEOL] = interrupt;
    tcsetattr(&*terminal, OptionalActions::Flush, &hidden)?;
    let line = io::stderr()
        .write_all(prompt.as_bytes())
        .and_then(|()| read_line(terminal, interrupt));
    tcsetattr(&*terminal, OptionalActions::Now, &before)?;
    match line {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            io::stderr().write_all(b"\n")?;
            kill_process(getpid(), Signal::INT)?;
            Err(error)
        }
        line => line,
    }
}

/// A line, byte by byte past the buffer of standard input, which would keep a copy; `Interrupted` if it ends with that.
fn read_line(terminal: &io::Stdin, interrupt: u8) -> io::Result<Password> {
    let mut line = Zeroizing::new(Vec::with_capacity(TYPED_LIMIT_BYTES));
    let mut byte = [0];
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(terminal, &mut byte))?;
        match (read, byte[0]) {
            (0, _) if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            (0, _) | (_, b'\n') => break,
            // 0: there is no such key.
            (_, read) if read == interrupt && read != 0 => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            _ if line.len() == TYPED_LIMIT_BYTES => return Err(io::ErrorKind::InvalidInput.into()),
            (_, read) => line.push(read),
        }
    }
    byte.zeroize();
    Ok(Password::new(std::mem::take(&mut *line)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_password_is_the_first_line_without_its_end_as_geth_has_it() {
        for (text, expected) in [
            ("secret\nother\n", "secret"),
            ("secret", "secret"),
            ("secret\r\n", "secret"),
            (" with spaces \n", " with spaces "),
            ("", ""),
            ("\nsecond", ""),
        ] {
            let line = first_line(text.as_bytes(), Path::new("p")).unwrap();
            assert_eq!(line.bytes(), expected.as_bytes(), "{text:?}");
        }
        assert!(first_line(&vec![b'x'; FILE_LIMIT_BYTES + 1], Path::new("p")).is_err());
    }
}
