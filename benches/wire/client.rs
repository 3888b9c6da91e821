//! The peer: shakes hands, checks a first run of answers in full, and then only counts their bytes, so that the server is what is
//! waited for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cairn_net::enode::NodeId;
use cairn_net::eth;
use cairn_net::eth::message::{Message, Outgoing, Request, decode};
use cairn_net::eth::status::Status;
use cairn_net::p2p::{self, Capability, Hello};
use cairn_net::rlpx;
use cairn_net::rlpx::entropy::Entropy;
use cairn_net::rlpx::frame::{HEADER_BYTES, rest_bytes};
use cairn_net::rlpx::handshake::{AwaitingAck, Link, PREFIX_BYTES, Step};

/// The id of the first of a list of requests. A request has the same id each time, so that its answer has the same bytes.
const FIRST_ID: u64 = 1 << 40;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    stream: TcpStream,
    link: Link,
    eth: u8,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects as a new node, up to Status both ways.
    pub(crate) fn dial((addr, node): (SocketAddr, NodeId)) -> Client {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let mut entropy = Entropy::new(seed);
        let secret = entropy.secret_key();
        let mut out = Vec::new();
        let state = AwaitingAck::start(secret, node, &mut entropy, &mut out).unwrap();
        stream.write_all(&out).unwrap();
        let mut packet = vec![0; PREFIX_BYTES];
        stream.read_exact(&mut packet).unwrap();
        let Ok(Step::More {
            state,
            needed_bytes,
        }) = state.read(&mut packet)
        else {
            panic!("no ack");
        };
        packet.resize(needed_bytes, 0);
        stream.read_exact(&mut packet[PREFIX_BYTES..]).unwrap();
        let Ok(Step::Done(link)) = state.read(&mut packet) else {
            panic!("no ack");
        };
        let mut client = Client {
            stream,
            link: *link,
            eth: *eth::VERSIONS.iter().max().unwrap(),
            buffer: vec![0; 256 << 10],
        };
        let hello = Hello {
            version: p2p::VERSION,
            client: "peer/bench".into(),
            capabilities: vec![Capability {
                name: "eth".into(),
                version: client.eth.into(),
            }],
            port: 0,
            id: rlpx::node_id(&secret),
        };
        let mut payload = Vec::new();
        hello.encode(&mut payload);
        let mut wire = Vec::new();
        client.link.writer.write(&[&[0x80], &payload], &mut wire);
        client.stream.write_all(&wire).unwrap();
        client.read(); // Hello
        let (_, body) = client.read();
        let status = Status::decode(client.eth, &unpacked(&body)).unwrap();
        let mut payload = Vec::new();
        status.encode(&mut payload);
        let mut wire = Vec::new();
        client.frame(p2p::FIRST_CAPABILITY_ID, &payload, &mut wire);
        client.stream.write_all(&wire).unwrap();
        client
    }

    /// Asks one after the other and gives the length on the wire of each answer, which `check` has looked at.
    pub(crate) fn learn(
        &mut self,
        requests: &[Request],
        check: impl Fn(&Request, Message),
    ) -> Vec<usize> {
        requests
            .iter()
            .enumerate()
            .map(|(at, request)| {
                let mut wire = Vec::new();
                self.request(requests, at, &mut wire);
                self.stream.write_all(&wire).unwrap();
                let (bytes, body) = self.read();
                let code = body[0] - p2p::FIRST_CAPABILITY_ID;
                let text = unpacked(&body);
                check(request, decode(self.eth, code, text.into()).unwrap());
                bytes
            })
            .collect()
    }

    /// Asks `count` requests in turn with so many in flight, and counts the bytes of the answers, which have these lengths.
    /// `in_one_write`: what the bytes that came ask for next goes out together, else each request on its own.
    pub(crate) fn run(
        &mut self,
        requests: &[Request],
        lengths: &[usize],
        count: usize,
        in_flight: usize,
        in_one_write: bool,
    ) {
        let mut wire = Vec::new();
        for at in 0..in_flight.min(count) {
            self.request(requests, at, &mut wire);
        }
        self.stream.write_all(&wire).unwrap();
        let (mut asked, mut answered, mut waiting) = (in_flight.min(count), 0, 0);
        while answered < count {
            let came = self.stream.read(&mut self.buffer).unwrap();
            assert!(came > 0, "the server hung up");
            waiting += came;
            wire.clear();
            while answered < count && waiting >= lengths[answered % lengths.len()] {
                waiting -= lengths[answered % lengths.len()];
                answered += 1;
                if asked < count {
                    self.request(requests, asked, &mut wire);
                    asked += 1;
                    if !in_one_write {
                        self.stream.write_all(&wire).unwrap();
                        wire.clear();
                    }
                }
            }
            self.stream.write_all(&wire).unwrap();
        }
        assert_eq!(waiting, 0, "more came than was asked for");
    }

    /// Goes on with another server, which only counts bytes.
    pub(crate) fn divert(&mut self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        self.stream = stream;
    }

    /// The length on the wire of each of these requests, which must be the same.
    pub(crate) fn request_bytes(&mut self, requests: &[Request]) -> usize {
        let mut wire = Vec::new();
        self.request(requests, 0, &mut wire);
        let bytes = wire.len();
        for at in 1..requests.len() {
            self.request(requests, at, &mut wire);
            assert_eq!(wire.len(), (at + 1) * bytes);
        }
        bytes
    }

    /// Asks for all of this and reads nothing.
    pub(crate) fn ask(&mut self, request: &Request, count: usize) {
        let mut wire = Vec::new();
        for _ in 0..count {
            self.request(std::slice::from_ref(request), 0, &mut wire);
        }
        self.stream.write_all(&wire).unwrap();
    }

    /// Reads so many bytes.
    pub(crate) fn drain(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let most = bytes.min(self.buffer.len());
            let came = self.stream.read(&mut self.buffer[..most]).unwrap();
            assert!(came > 0, "the server hung up");
            bytes -= came;
        }
    }

    /// Writes the request of this index.
    fn request(&mut self, requests: &[Request], at: usize, wire: &mut Vec<u8>) {
        let mut payload = Vec::new();
        let at = at % requests.len();
        let (id, request) = (FIRST_ID + at as u64, &requests[at]);
        let code = Outgoing::Request { id, request }.encode(self.eth, &mut payload);
        self.frame(p2p::FIRST_CAPABILITY_ID + code, &payload, wire);
    }

    fn frame(&mut self, id: u8, payload: &[u8], wire: &mut Vec<u8>) {
        let packed = snap::raw::Encoder::new().compress_vec(payload).unwrap();
        self.link.writer.write(&[&[id], &packed], wire);
    }

    /// The next frame's length on the wire and its body, both MACs checked.
    fn read(&mut self) -> (usize, Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).unwrap();
        let body_bytes = self.link.reader.header(&mut header).unwrap();
        let mut rest = vec![0; rest_bytes(body_bytes)];
        self.stream.read_exact(&mut rest).unwrap();
        let body = self.link.reader.body(&mut rest, body_bytes).unwrap();
        (HEADER_BYTES + rest_bytes(body_bytes), body.to_vec())
    }
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    snap::raw::Decoder::new()
        .decompress_vec(&body[1..])
        .unwrap()
}
