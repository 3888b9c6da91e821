//! A peer on a blocking socket that does the handshake as it should, as far as a test wants, and then says whatever it wants.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cairn_net::enode::NodeId;
use cairn_net::eth;
use cairn_net::eth::message::{Message, Outgoing, Request, decode};
use cairn_net::eth::status::Status;
use cairn_net::p2p::{self, Capability, DisconnectReason, Hello};
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::frame::{HEADER_BYTES, rest_bytes};
use cairn_net::rlpx::handshake::{AwaitingAck, Link, PREFIX_BYTES, Step};

use rustix::net::{AddressFamily, SocketType, bind, socket};

use super::{PATIENCE, id, key};

/// How a node ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a Disconnect.
    Told(DisconnectReason),
    /// Without a word.
    Silent,
}

/// Who a node is and where.
pub type Target = (SocketAddr, NodeId);

pub struct Puppet {
    pub stream: TcpStream,
    pub link: Link,
    /// What was read already, and belongs to messages that are not read yet.
    pub early: VecDeque<u8>,
    key: u8,
    /// The version of eth it speaks.
    pub eth: u8,
    /// The node's Status, once it came: what ours is made of.
    pub status: Option<Status>,
}

/// A TCP connection, and no more.
pub fn connect(addr: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(addr).unwrap())
}

/// The same from an address of our own.
pub fn connect_from(ip: IpAddr, addr: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(ip, 0)).unwrap();
    rustix::net::connect(&socket, &addr).unwrap();
    patient(TcpStream::from(socket))
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An auth for the node, and the state that awaits its ack.
pub fn auth(key_of: u8, node: NodeId) -> (AwaitingAck, Vec<u8>) {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    let mut auth = Vec::new();
    let state = AwaitingAck::start(key(key_of), node, &mut Entropy::new(seed), &mut auth).unwrap();
    (state, auth)
}

/// Reads until the node hangs up: how many bytes came, and when the end did.
pub fn hung_up(mut stream: TcpStream) -> usize {
    let mut sink = [0; 4096];
    let mut count = 0;
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return count,
            Ok(len) => count += len,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return count,
            // A process that was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the node did not hang up: {error}"),
        }
    }
}

impl Puppet {
    /// Up to auth and ack.
    pub fn dial(key_of: u8, (addr, node): Target) -> Puppet {
        Puppet::over(connect(addr), key_of, node)
    }

    /// The same over a connection that is up.
    pub fn over(mut stream: TcpStream, key_of: u8, node: NodeId) -> Puppet {
        let (state, auth) = auth(key_of, node);
        stream.write_all(&auth).unwrap();
        let mut packet = [0; PREFIX_BYTES].to_vec();
        stream.read_exact(&mut packet).unwrap();
        let Ok(Step::More {
            state,
            needed_bytes,
        }) = state.read(&mut packet)
        else {
            panic!("no ack")
        };
        packet.resize(needed_bytes, 0);
        stream.read_exact(&mut packet[PREFIX_BYTES..]).unwrap();
        let Ok(Step::Done(link)) = state.read(&mut packet) else {
            panic!("no ack")
        };
        Puppet {
            stream,
            link: *link,
            early: VecDeque::new(),
            key: key_of,
            eth: eth::VERSIONS[0],
            status: None,
        }
    }

    /// Up to Hello both ways.
    pub fn greeted(key_of: u8, target: Target) -> Puppet {
        let mut puppet = Puppet::dial(key_of, target);
        puppet.greet();
        puppet
    }

    /// Hello both ways.
    pub fn greet(&mut self) {
        self.say_hello(|_| {});
        let (id, payload) = self.read().expect("Hello");
        assert_eq!(id, p2p::HELLO);
        Hello::decode(&payload).unwrap();
    }

    /// Up to Status both ways: a peer, on the node's own chain.
    pub fn ready(key_of: u8, target: Target) -> Puppet {
        Puppet::ready_with(key_of, target, |_| {})
    }

    /// The same with another Status than the node's own.
    pub fn ready_with(key_of: u8, target: Target, change: impl FnOnce(&mut Status)) -> Puppet {
        let mut puppet = Puppet::greeted(key_of, target);
        puppet.learn_status();
        puppet.say_status(change);
        puppet
    }

    /// Waits for the node's Status.
    pub fn learn_status(&mut self) {
        let (id, payload) = self.read().expect("Status");
        assert_eq!(id, p2p::FIRST_CAPABILITY_ID);
        self.status = Some(Status::decode(self.eth, &payload).unwrap());
    }

    pub fn say_hello(&mut self, change: impl FnOnce(&mut Hello)) {
        let mut hello = Hello {
            version: p2p::VERSION,
            client: "puppet".to_owned(),
            capabilities: vec![Capability {
                name: "eth".to_owned(),
                version: self.eth.into(),
            }],
            port: 0,
            id: id(self.key),
        };
        change(&mut hello);
        let mut payload = Vec::new();
        hello.encode(&mut payload);
        self.say_raw(p2p::HELLO, &payload);
    }

    pub fn say_status(&mut self, change: impl FnOnce(&mut Status)) {
        let mut status = self.status.clone().expect("the node's Status came");
        change(&mut status);
        let mut payload = Vec::new();
        status.encode(&mut payload);
        self.say(p2p::FIRST_CAPABILITY_ID, &payload);
    }

    /// A frame of any body, as it would go out.
    pub fn sealed(&mut self, body: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.link.writer.write(&[body], &mut wire);
        wire
    }

    /// Bytes as they are. The node may have hung up: that is found by reading.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A message that is not compressed, or compressed by the test.
    pub fn say_raw(&mut self, id: u8, payload: &[u8]) {
        let id = if id == 0 { 0x80 } else { id };
        let wire = self.sealed(&[&[id], payload].concat());
        self.write(&wire);
    }

    pub fn say(&mut self, id: u8, payload: &[u8]) {
        let packed = snap::raw::Encoder::new().compress_vec(payload).unwrap();
        self.say_raw(id, &packed);
    }

    /// A message of eth by its code.
    pub fn say_eth(&mut self, code: u8, payload: &[u8]) {
        self.say(p2p::FIRST_CAPABILITY_ID + code, payload);
    }

    pub fn send(&mut self, message: Outgoing<'_>) {
        let mut payload = Vec::new();
        let code = message.encode(self.eth, &mut payload);
        self.say_eth(code, &payload);
    }

    pub fn request(&mut self, id: u64, request: &Request) {
        self.send(Outgoing::Request { id, request });
    }

    /// The next message, decompressed (Hello is not compressed); `None` when the node has hung up.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header)?;
        let body_bytes = self
            .link
            .reader
            .header(&mut header)
            .expect("the node's MAC");
        let mut rest = vec![0; rest_bytes(body_bytes)];
        self.fill(&mut rest)?;
        let body = self.link.reader.body(&mut rest, body_bytes);
        let body = body.expect("the node's MAC");
        let id = if body[0] == 0x80 { 0 } else { body[0] };
        let payload = &body[1..];
        let is_plain = id == p2p::HELLO;
        Some((
            id,
            match is_plain {
                true => payload.to_vec(),
                false => snap::raw::Decoder::new().decompress_vec(payload).unwrap(),
            },
        ))
    }

    fn fill(&mut self, out: &mut [u8]) -> Option<()> {
        let early = out.len().min(self.early.len());
        let (before, out) = out.split_at_mut(early);
        before.fill_with(|| self.early.pop_front().expect("so many are there"));
        match self.stream.read_exact(out) {
            Ok(()) => Some(()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                None
            }
            Err(error) => panic!("the node neither spoke nor hung up: {error}"),
        }
    }

    /// The next message of eth, whatever of p2p comes before it (a Ping is answered); `None` when the node has hung up.
    pub fn message(&mut self) -> Option<Message> {
        loop {
            match self.read()? {
                (p2p::PING, _) => self.say(p2p::PONG, &p2p::EMPTY_LIST),
                (id, payload) if id >= p2p::FIRST_CAPABILITY_ID => {
                    let code = id - p2p::FIRST_CAPABILITY_ID;
                    return Some(decode(self.eth, code, payload.into()).expect("the node's own"));
                }
                (p2p::DISCONNECT, payload) => {
                    panic!("disconnected: {:?}", DisconnectReason::decode(&payload))
                }
                _ => {}
            }
        }
    }

    /// Reads until the connection is over.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let start = Instant::now();
        loop {
            match self.read() {
                Some((p2p::DISCONNECT, payload)) => {
                    return End::Told(DisconnectReason::decode(&payload).unwrap());
                }
                Some(_) => {}
                None => return End::Silent,
            }
            assert!(start.elapsed() < 2 * PATIENCE, "it talks on");
        }
    }

    /// Says a byte at a time until the node hangs up; gives how it did.
    pub fn trickle(mut self, bytes: &[u8], each: Duration) -> End {
        let mut stream = self.stream.try_clone().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || {
            for byte in bytes {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(each);
            }
        });
        self.stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let end = self.end();
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        writer.join().unwrap();
        end
    }
}

/// A peer that does no harm, served on a thread of its own while others do: each answer is timed.
pub struct Honest {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// How long each answer took.
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

/// No answer may take longer while others misbehave. Generous: CI has two cores and other things to do, and may stop any thread of ours
/// for a second, again and again.
pub const SLOWEST: Duration = Duration::from_secs(10);

/// Half of the answers may take no longer, where there are many: a thread that is stopped now and then is stopped in few of them.
pub const MEDIAN: Duration = Duration::from_secs(2);
/// So many are many.
const MANY: usize = 20;

impl Honest {
    /// Asks for headers again and again, of which an answer has `count`.
    pub fn start(key_of: u8, target: Target, request: Request, count: usize) -> Honest {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut puppet = Puppet::ready(key_of, target);
        let is_over = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) || took.is_empty() {
                let start = Instant::now();
                let served = took.len() as u64;
                puppet.request(served, &request);
                loop {
                    match puppet.message().expect("an honest peer is not hung up on") {
                        Message::Headers { id, headers } if id == served => {
                            assert_eq!(headers.len(), count);
                            break;
                        }
                        // A node that stands still asks now and then, and lets go who does not answer: there is nothing above its head.
                        Message::Request { id, request } => {
                            let (kind, items) = (request.answer_kind(), &[][..]);
                            puppet.send(Outgoing::Answer { kind, id, items });
                        }
                        _ => {}
                    }
                }
                took.push(start.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            took
        });
        Honest { stop, thread }
    }

    /// Ends it; what was measured is printed and judged.
    #[track_caller]
    pub fn finish(self, what: &str) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut took = self.thread.join().expect("the honest peer was served");
        took.sort_unstable();
        let (served, median, slowest) = (took.len(), took[took.len() / 2], took[took.len() - 1]);
        println!(
            "{what}: the honest peer had {served} answers, half of them within {median:?} and all within {slowest:?}"
        );
        assert!(slowest < SLOWEST, "{what}: {slowest:?}");
        assert!(served < MANY || median < MEDIAN, "{what}: {median:?}");
    }
}
