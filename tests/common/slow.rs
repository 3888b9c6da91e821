//! A line to a node that is as slow as a test wants it, so that a follower behind it takes its time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Node;

/// The near end of the line; its threads end with the process.
pub struct SlowLine {
    /// The node, as it is dialled through this line.
    pub enode: String,
    bytes_per_s: Arc<AtomicU64>,
}

impl SlowLine {
    /// What the node says comes no faster than this; on a busy machine it comes slower.
    pub fn to(node: &Node, bytes_per_s: u64) -> SlowLine {
        let (id, address) = node.enode.split_once('@').unwrap();
        let far: SocketAddr = address.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let enode = format!("{id}@{}", listener.local_addr().unwrap());
        let bytes_per_s = Arc::new(AtomicU64::new(bytes_per_s));
        let limit = bytes_per_s.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(far)) else {
                    continue;
                };
                let (to_near, from_near) = (near.try_clone().unwrap(), near);
                let (to_far, from_far) = (far.try_clone().unwrap(), far);
                let limit = limit.clone();
                std::thread::spawn(move || pass(from_near, to_far, &AtomicU64::new(0)));
                std::thread::spawn(move || pass(from_far, to_near, &limit));
            }
        });
        SlowLine { enode, bytes_per_s }
    }

    /// From now on it is as fast as it can be.
    pub fn open(&self) {
        self.bytes_per_s.store(0, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, bytes_per_s: &AtomicU64) {
    let mut buffer = [0; 8 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let limit = bytes_per_s.load(Ordering::Relaxed);
        if limit > 0 {
            std::thread::sleep(Duration::from_secs_f64(count as f64 / limit as f64));
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
