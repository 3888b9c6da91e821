//! A line between two nodes that carries so many bytes a second to the one that dials.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;

/// What is carried in one step.
const STEP_BYTES: usize = 16 << 10;
/// A step that came late for want of a core is made up for, as long as it was not later than this.
const MADE_UP: Duration = Duration::from_millis(50);
/// What may wait on the line: what a line of 40 Mbit/s holds in 25 ms, and not the megabytes that Linux would let wait.
const WAITING_BYTES: usize = 128 << 10;

pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    ended: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Relay {
    pub(crate) fn start(to: SocketAddr, bytes_per_s: f64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let ended = Arc::<AtomicBool>::default();
        let stop = ended.clone();
        let accepts = std::thread::spawn(move || {
            // A connection's two threads end with either of its ends.
            for near in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let near = near.unwrap();
                let far = TcpStream::connect(to).unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                set_socket_recv_buffer_size(&far, WAITING_BYTES).unwrap();
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || carry(near, far, f64::INFINITY));
                std::thread::spawn(move || carry(far_too, near_too, bytes_per_s));
            }
        });
        Relay {
            addr,
            ended,
            accepts: Some(accepts),
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, bytes_per_s: f64) {
    let mut buffer = vec![0; STEP_BYTES];
    let mut free = Instant::now();
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let now = Instant::now();
        free = free.max(now - MADE_UP) + Duration::from_secs_f64(bytes as f64 / bytes_per_s);
        std::thread::sleep(free.saturating_duration_since(now));
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // The other direction's thread ends with it; where both are gone there is nothing to shut.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr); // it waits for one
        if let Some(accepts) = self.accepts.take() {
            accepts.join().unwrap();
        }
    }
}
