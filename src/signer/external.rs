//! Asks another program for a signature: a connection for each block, so that one that was away is there again by itself.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy_consensus::Header;
use alloy_primitives::Address;

use super::wire::{MAX_ANSWER_BYTES, read_answer, request};
use super::{AnswerError, SignError};
use crate::chain::clique;
use crate::ipc::socket;

/// The longest wait for a signature, where the turn is not shorter: the keys of a machine answer in milliseconds, a device of its own
/// within a second.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// A signer behind a socket, for one address.
#[derive(Clone, Debug)]
pub struct External {
    path: PathBuf,
    address: Address,
    timeout: Duration,
}

impl External {
    /// The signer at `path`. It is asked for a signature of `address`, and waited for no longer than a turn of `pace_s`.
    pub fn new(path: &Path, address: Address, pace_s: u64) -> External {
        External {
            path: path.into(),
            address,
            timeout: TIMEOUT_MAX.min(Duration::from_secs(pace_s.max(1))),
        }
    }

    /// For whom it signs.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Has `header` signed, checks the signature, and puts it in its place.
    ///
    /// # Errors
    /// [`SignError`]; `header` is then as it was.
    pub fn seal(&self, header: &mut Header) -> Result<(), SignError> {
        let deadline = Instant::now() + self.timeout;
        let mut stream = self.connect()?;
        let line = self
            .exchange(&mut stream, &request(self.address, header), deadline)
            .map_err(|error| SignError::Io(self.path.clone(), error))?;
        let seal = read_answer(&line).map_err(|why| {
            let why = match why {
                // Of use for this parent alone, and only if the seal proves that it is signed: whoever listens there could say so.
                AnswerError::Signed { why, kept }
                    if kept.parent_hash != header.parent_hash
                        || clique::signer(&kept) != Ok(self.address) =>
                {
                    AnswerError::Refused(why)
                }
                why => why,
            };
            SignError::Answer(self.path.clone(), why)
        })?;
        let mut sealed = header.clone();
        clique::put_seal(&mut sealed, &seal);
        let found = clique::signer(&sealed).ok();
        if found != Some(self.address) {
            return Err(SignError::NotOurs {
                path: self.path.clone(),
                expected: self.address,
                found,
            });
        }
        *header = sealed;
        Ok(())
    }

    /// Whether somebody listens there.
    ///
    /// # Errors
    /// `Away`, or `Io`.
    pub fn reach(&self) -> Result<(), SignError> {
        self.connect().map(|_| ())
    }

    fn connect(&self) -> Result<UnixStream, SignError> {
        socket::connect(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                SignError::Away(self.path.clone())
            }
            _ => SignError::Io(self.path.clone(), error),
        })
    }

    /// Sends a line and reads one, all of it before the deadline.
    fn exchange(
        &self,
        stream: &mut UnixStream,
        request: &str,
        deadline: Instant,
    ) -> io::Result<Vec<u8>> {
        let left = || match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
            left => Ok(Some(left)),
        };
        stream.set_write_timeout(left()?)?;
        stream.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        let mut piece = [0; 512];
        loop {
            stream.set_read_timeout(left()?)?;
            let read = match stream.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            line.extend_from_slice(&piece[..read]);
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end);
                return Ok(line);
            }
            if read == 0 {
                return match line.is_empty() {
                    true => Err(io::ErrorKind::UnexpectedEof.into()),
                    false => Ok(line),
                };
            }
            if line.len() > MAX_ANSWER_BYTES {
                let why = AnswerError::NoAnswer("it does not end");
                return Err(io::Error::other(why));
            }
        }
    }
}

/// Did the answer not come in time? A read that was waited for in vain is told as one that would block.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::chain::clique::{seal_hash, sign};
    use crate::secret::SigningKey;
    use alloy_primitives::{Bytes, hex};

    fn header() -> Header {
        Header {
            extra_data: Bytes::from(vec![0; 97]),
            ..Header::default()
        }
    }

    /// No answer is as late, also on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Asks a signer that answers with `answer` to whatever it is asked; `None`: it does not answer, and is not waited for long.
    fn asked(answer: Option<String>) -> (Result<(), SignError>, Header) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let ours = SigningKey::from_bytes(&[1; 32]).unwrap().address();
        let mut external = External::new(&path, ours, 1);
        if answer.is_some() {
            external.timeout = PATIENCE;
        }
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                // Until the other side has had enough.
                None => drop(reader.read_line(&mut line)),
            }
        });
        let mut header = header();
        let outcome = external.seal(&mut header);
        server.join().unwrap();
        (outcome, header)
    }

    fn answer_of(key: u8, header: &Header) -> String {
        let key = SigningKey::from_bytes(&[key; 32]).unwrap();
        let seal = hex::encode_prefixed(sign(seal_hash(header), key.key()));
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{seal}\"}}\n")
    }

    #[test]
    fn a_signature_of_ours_is_put_in_its_place_and_any_other_is_not() {
        let (outcome, sealed) = asked(Some(answer_of(1, &header())));
        outcome.unwrap();
        let ours = SigningKey::from_bytes(&[1; 32]).unwrap().address();
        assert_eq!(clique::signer(&sealed), Ok(ours));
        // Of another key; of another block; no signature at all.
        let another = Header {
            number: 9,
            ..header()
        };
        let rubbish = format!("{{\"result\":\"0x{}\"}}\n", "00".repeat(65));
        for answer in [answer_of(2, &header()), answer_of(1, &another), rubbish] {
            let (outcome, after) = asked(Some(answer));
            assert!(
                matches!(outcome, Err(SignError::NotOurs { .. })),
                "{outcome:?}"
            );
            assert_eq!(after, header());
        }
    }

    #[test]
    fn a_refusal_names_the_header_that_was_signed_over_that_parent_and_no_other_is_believed() {
        let refusal = |data: &str| {
            format!("{{\"error\":{{\"code\":-32000,\"message\":\"no\",\"data\":\"{data}\"}}}}\n")
        };
        let sealed_by = |key: u8, header: &Header| {
            let mut sealed = header.clone();
            let key = SigningKey::from_bytes(&[key; 32]).unwrap();
            clique::seal(&mut sealed, key.key());
            sealed
        };
        let refused = |kept: &Header| {
            let answer = refusal(&hex::encode_prefixed(alloy_rlp::encode(kept)));
            match asked(Some(answer)).0 {
                Err(SignError::Answer(_, why)) => why,
                other => panic!("{other:?}"),
            }
        };
        // A checkpoint of so many signers is not too long for an answer.
        let kept = Header {
            timestamp: 9,
            extra_data: Bytes::from(vec![0; 97 + 20 * 370]),
            ..header()
        };
        let sealed = sealed_by(1, &kept);
        let AnswerError::Signed { kept: told, .. } = refused(&sealed) else {
            panic!("no header");
        };
        assert_eq!(*told, sealed);
        // Without a seal of ours nothing says that it was ever signed.
        for unproved in [kept.clone(), sealed_by(2, &kept)] {
            assert_eq!(refused(&unproved), AnswerError::Refused("no".into()));
        }
        let elsewhere = Header {
            parent_hash: alloy_primitives::B256::repeat_byte(1),
            ..kept
        };
        let elsewhere = sealed_by(1, &elsewhere);
        assert_eq!(refused(&elsewhere), AnswerError::Refused("no".into()));
        let (outcome, _) = asked(Some(refusal("0xc0")));
        assert!(
            matches!(&outcome, Err(SignError::Answer(_, AnswerError::Refused(_)))),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_signer_that_hangs_hangs_up_or_does_not_end_is_not_waited_for() {
        let start = Instant::now();
        let (outcome, _) = asked(None);
        assert!(
            matches!(&outcome, Err(SignError::Io(_, error)) if is_timeout(error)),
            "{outcome:?}"
        );
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        let (outcome, _) = asked(Some(String::new()));
        assert!(matches!(outcome, Err(SignError::Io(..))), "{outcome:?}");
        let (outcome, _) = asked(Some("x".repeat(MAX_ANSWER_BYTES + 1)));
        assert!(outcome.unwrap_err().to_string().contains("does not end"));
        let nobody = External::new(Path::new("/nowhere/s"), Address::ZERO, 1);
        assert!(matches!(
            nobody.seal(&mut header()),
            Err(SignError::Away(_))
        ));
    }
}
