//! The ceilings, in a process of their own: the primitives that any server must run over the same bytes, and the kernel's send.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use aes::Aes256Enc;
use cairn_net::keccak::Keccak256;
use cairn_store::Reader;
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use snap::raw::Encoder;

use crate::{chain, machine};

/// Bytes that go from the cipher to the MAC while they are in the nearest cache.
const CHUNK_BYTES: usize = 8 << 10;

/// The whole life of the child. It is told `bodies BYTES COUNT` or `headers FIRST AMOUNT COUNT`, says how many bytes it will send, sends
/// as many messages, and says how many nanoseconds of this thread they took. Told `singles BYTES BYTES COUNT` it answers so many
/// requests of the first length with the second.
pub(crate) fn run(dir: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut link = Link {
        stream,
        cipher: Ctr64BE::new(&[1; 32].into(), &[0; 16].into()),
        mac: Keccak256::new(),
    };
    let reader = Reader::open(&chain::store(dir)).unwrap();
    let mut buffer = Vec::new();
    let mut encoder = Encoder::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let what = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        match what {
            "bodies" => {
                let (bytes, count) = (number(), number());
                buffer.resize(bytes, 1);
                println!("{}", bytes * count);
                let before = machine::thread_cpu();
                for _ in 0..count {
                    link.send(&mut buffer[..bytes]);
                }
                println!("{}", (machine::thread_cpu() - before).as_nanos());
            }
            "singles" => {
                let (request_bytes, answer_bytes, count) = (number(), number(), number());
                let before = machine::thread_cpu();
                link.answer(request_bytes, answer_bytes, count);
                println!("{}", (machine::thread_cpu() - before).as_nanos());
            }
            _ => {
                let (first, amount, count) = (number(), number(), number());
                let snapshot = reader.snapshot();
                let runs: Vec<Vec<u8>> = (0..count)
                    .map(|at| {
                        let mut run = Vec::new();
                        let first = crate::parts::first_header(first + at);
                        snapshot
                            .headers(first, amount, &mut |part| run.extend_from_slice(part))
                            .unwrap();
                        run
                    })
                    .collect();
                let room = runs
                    .iter()
                    .map(|run| snap::raw::max_compress_len(run.len()));
                buffer.resize(room.max().unwrap(), 1);
                let mut compress =
                    |run: &Vec<u8>, out: &mut Vec<u8>| encoder.compress(run, out).unwrap();
                let bytes: usize = runs.iter().map(|run| compress(run, &mut buffer)).sum();
                println!("{bytes}");
                let before = machine::thread_cpu();
                for run in &runs {
                    let bytes = compress(run, &mut buffer);
                    link.send(&mut buffer[..bytes]);
                }
                println!("{}", (machine::thread_cpu() - before).as_nanos());
            }
        }
    }
}

struct Link {
    stream: TcpStream,
    cipher: Ctr64BE<Aes256Enc>,
    mac: Keccak256,
}

impl Link {
    fn send(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(CHUNK_BYTES) {
            self.cipher.apply_keystream(chunk);
            self.mac.update(chunk);
        }
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads whatever has come, deciphers and checks each request, enciphers an answer, and writes all answers at once.
    fn answer(&mut self, request_bytes: usize, answer_bytes: usize, count: usize) {
        let mut buffer = vec![0; 64 << 10];
        let mut answers = Vec::with_capacity(64 << 10);
        let (mut answered, mut waiting) = (0, 0);
        while answered < count {
            waiting += self.stream.read(&mut buffer[waiting..]).unwrap();
            answers.clear();
            let whole = waiting / request_bytes * request_bytes;
            for request in buffer[..whole].chunks_exact_mut(request_bytes) {
                self.frame(request);
                let start = answers.len();
                answers.resize(start + answer_bytes, 1);
                self.frame(&mut answers[start..]);
                answered += 1;
            }
            buffer.copy_within(whole..waiting, 0);
            waiting -= whole;
            self.stream.write_all(&answers).unwrap();
        }
    }

    /// The cipher and the three digests of a frame.
    fn frame(&mut self, bytes: &mut [u8]) {
        self.cipher.apply_keystream(bytes);
        self.mac.update(&bytes[..32]);
        black_box(self.mac.clone().finalize());
        self.mac.update(&bytes[32..]);
        for _ in 0..2 {
            black_box(self.mac.clone().finalize());
            self.mac.update([0; 16]);
        }
    }
}
