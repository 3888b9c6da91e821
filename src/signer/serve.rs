//! The external signer, `cairn signer`: holds a key and signs the blocks that it is asked to, never two over one parent.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_consensus::Header;
use alloy_primitives::{Address, hex};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde_json::{Value, json};

use super::wire::{CONTENT_TYPE, METHOD, read_unsealed};
use crate::chain::clique;
use crate::ipc::rpc::{Input, Taken, answer};
use crate::ipc::socket::Place;
use crate::ipc::{Methods, RpcError};
use crate::logging::short;
use crate::secret::SigningKey;
use crate::signed::{Record, Refusal};

/// How soon a stop is seen while nobody calls.
const STOP_INTERVAL: Duration = Duration::from_millis(250);
/// A caller that is quiet for so long gives way to the next: one is served at a time.
const QUIET_LIMIT: Duration = Duration::from_secs(1);
/// And so does one that goes on for so long.
const CALLER_LIMIT: Duration = Duration::from_secs(10);
/// A header of the longest that is kept as signed, in hex, has room in it some times over.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// What clef says its interface is, where it has these methods; geth asks for it.
const INTERFACE_VERSION: &str = "6.1.0";

/// The socket, bound, and the key behind it.
pub struct SignerRole {
    listener: UnixListener,
    desk: Desk,
    /// Takes the socket's name away when the role ends.
    _place: Place,
}

struct Desk {
    key: SigningKey,
    record: Record,
}

impl SignerRole {
    /// Binds the socket at `path`, open to this user alone or to the socket's group too.
    ///
    /// # Errors
    /// What the system said.
    pub fn bind(
        path: &Path,
        group_access: bool,
        key: SigningKey,
        record: Record,
    ) -> io::Result<SignerRole> {
        let mode = if group_access { 0o660 } else { 0o600 };
        let (listener, place) = Place::bind(path, mode)?;
        set_socket_timeout(&listener, Timeout::Recv, Some(STOP_INTERVAL))?;
        Ok(SignerRole {
            listener,
            desk: Desk { key, record },
            _place: place,
        })
    }

    /// Signs until `stop` is raised; the key is then wiped.
    ///
    /// # Errors
    /// The listener's own: nothing that a caller does ends it.
    pub fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = serve(stream, &mut self.desk, stop) {
                        log::debug!("A caller's connection failed error=\"{error}\"");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Gone before it was let in, or no file descriptor for it now.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionAborted
                        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) =>
                {
                    log::warn!("A caller cannot be let in error=\"{error}\"");
                    std::thread::sleep(STOP_INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Answers one caller until it hangs up.
fn serve(mut stream: UnixStream, desk: &mut Desk, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(QUIET_LIMIT))?;
    stream.set_write_timeout(Some(QUIET_LIMIT))?;
    let deadline = Instant::now() + CALLER_LIMIT;
    let mut input = Input::default();
    let mut piece = [0; 4096];
    while !stop.load(Ordering::Relaxed) && Instant::now() < deadline {
        let read = match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        input.extend(&piece[..read]);
        loop {
            let said = match input.take() {
                Taken::More => break,
                Taken::Value(request) => answer(desk, request),
                Taken::Broken(said) => {
                    writeln!(stream, "{said}")?;
                    return Ok(());
                }
            };
            if let Some(said) = said {
                stream.write_all(format!("{said}\n").as_bytes())?;
            }
        }
        if input.len() > MAX_REQUEST_BYTES {
            let said =
                RpcError::invalid(format!("a request of more than {MAX_REQUEST_BYTES} bytes"));
            writeln!(stream, "{}", said.answer(&Value::Null))?;
            return Ok(());
        }
    }
    Ok(())
}

impl Methods for Desk {
    fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
        match method {
            METHOD => self.sign(params).inspect_err(|why| {
                let why = why.message.escape_debug();
                log::warn!("Not signed signer={} reason=\"{why}\"", self.key.address());
            }),
            "account_list" => Ok(json!([self.key.address().to_string()])),
            "account_version" => Ok(INTERFACE_VERSION.into()),
            _ => Err(RpcError::no_method(method)),
        }
    }
}

impl Desk {
    /// What was signed instead of `header`, with its seal, which proves it: who asked can offer that, and the chain goes on.
    fn kept(&self, refusal: &Refusal, header: &Header) -> Option<Value> {
        let Refusal::Other { .. } = refusal else {
            return None;
        };
        let mut kept = self.record.over(&header.parent_hash).ok().flatten()?;
        clique::seal(&mut kept, self.key.key());
        Some(hex::encode_prefixed(alloy_rlp::encode(kept)).into())
    }

    fn sign(&mut self, params: &[Value]) -> Result<Value, RpcError> {
        let [content_type, address, data] = params else {
            return Err(RpcError::params(
                "expected a content type, an address and data",
            ));
        };
        if content_type != CONTENT_TYPE {
            return Err(RpcError::params(format!(
                "nothing but {CONTENT_TYPE} is signed here"
            )));
        }
        let address: Option<Address> = address.as_str().and_then(|text| text.parse().ok());
        let address =
            address.ok_or_else(|| RpcError::params("the second parameter is no address"))?;
        if address != self.key.address() {
            return Err(RpcError::failed(format!(
                "the key here is of {}, not of {address}",
                self.key.address()
            )));
        }
        let rlp = data.as_str().and_then(|text| hex::decode(text).ok());
        let rlp = rlp.ok_or_else(|| RpcError::params("the third parameter is no hex"))?;
        let mut header = read_unsealed(&rlp).map_err(RpcError::params)?;
        self.record.allow(&header).map_err(|refusal| RpcError {
            data: self.kept(&refusal, &header),
            ..RpcError::failed(refusal.to_string())
        })?;
        clique::seal(&mut header, self.key.key());
        log::info!(
            "Signed block number={} parent={}",
            header.number,
            short(&header.parent_hash)
        );
        let seal = header.extra_data.last_chunk::<{ clique::SEAL_BYTES }>();
        Ok(hex::encode_prefixed(seal.expect("it was just put there")).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signer::AnswerError;
    use crate::signer::{read_answer, request};
    use alloy_primitives::{B256, Bytes};

    fn desk(dir: &Path) -> Desk {
        Desk {
            key: SigningKey::from_bytes(&[1; 32]).unwrap(),
            record: Record::open(&dir.join("signed")).unwrap(),
        }
    }

    fn header(parent: u8, time_s: u64) -> Header {
        Header {
            number: 3,
            parent_hash: B256::repeat_byte(parent),
            timestamp: time_s,
            extra_data: Bytes::from(vec![0; 97]),
            base_fee_per_gas: Some(7),
            ..Header::default()
        }
    }

    fn ask(desk: &mut Desk, request: &str) -> Value {
        answer(desk, serde_json::from_str(request).unwrap()).unwrap()
    }

    #[test]
    fn what_the_node_asks_is_signed_once_over_each_parent() {
        let dir = tempfile::tempdir().unwrap();
        let mut desk = desk(dir.path());
        let ours = desk.key.address();
        let mut ask = |header: &Header| {
            let said = ask(&mut desk, &request(ours, header));
            read_answer(said.to_string().as_bytes())
        };
        let mut first = header(1, 10);
        let seal = ask(&first).unwrap();
        assert_eq!(ask(&first).unwrap(), seal);
        clique::put_seal(&mut first, &seal);
        assert_eq!(clique::signer(&first), Ok(ours));
        let refused = ask(&header(1, 11)).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("another block over"), "{told}");
        // Who asked gets to know which one was, with its seal.
        let AnswerError::Signed { kept, .. } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(*kept, first);
        assert_eq!(ask(&kept).unwrap(), seal);
        ask(&header(2, 11)).unwrap();
    }

    #[test]
    fn nothing_else_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let mut desk = desk(dir.path());
        let good = request(desk.key.address(), &header(1, 10));
        let sealed = hex::encode_prefixed(alloy_rlp::encode(header(1, 10)));
        let unsealed = hex::encode_prefixed(clique::unsealed(&header(1, 10)));
        for (bad, told) in [
            (good.replace("x-clique-header", "plain"), "nothing but"),
            (good.replace(CONTENT_TYPE, "text/plain"), "nothing but"),
            (request(Address::ZERO, &header(1, 10)), "the key here is of"),
            (good.replace(&unsealed, &sealed), "without a seal"),
            (good.replace(&unsealed, "0xc0"), "no header"),
            (good.replace(&unsealed, "zz"), "no hex"),
            (
                good.replace(METHOD, "account_signTransaction"),
                "does not exist",
            ),
        ] {
            assert_ne!(bad, good);
            let said = ask(&mut desk, &bad);
            let why = said["error"]["message"].as_str().unwrap();
            assert!(why.contains(told), "{why}");
        }
        assert_eq!(ask(&mut desk, &good)["error"], Value::Null);
    }
}
