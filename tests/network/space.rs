//! Network namespaces: one for the test itself, in which the relay is the hub, and one for each node, joined to the hub alone.
//!
//! Nothing forwards packets in the hub, so nodes reach each other through the relay or not at all. The test runs again as the first
//! process of a process namespace of its own: when it ends, however it ends, the kernel ends all that it started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Set where the test is in its own namespace.
const INSIDE: &str = "CAIRN_TEST_NETWORK";

/// Where node `place` listens.
pub fn address(place: usize) -> IpAddr {
    Ipv4Addr::new(10, 77, octet(place), 2).into()
}

/// Where the hub is for node `place`: what it dials.
pub fn hub(place: usize) -> IpAddr {
    Ipv4Addr::new(10, 77, octet(place), 1).into()
}

/// Where node `place` seems to dial from: the relay's own address for it, so that what counts by address counts right.
pub fn alias(place: usize) -> IpAddr {
    Ipv4Addr::new(10, 78, 0, octet(place)).into()
}

fn octet(place: usize) -> u8 {
    u8::try_from(place).unwrap()
}

/// Whether this process is in the hub's namespace. If not, the test is run again in one, if the system gives it; where it does not,
/// nothing was tested, which is a failure with `CI=true`.
pub fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        end_with_the_outer_process();
        return true;
    }
    let unshare = |args: &[&str]| {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(args);
        command
    };
    let up = "ip link set lo up && ip link add name v0 type veth peer name e0 && ip link delete v0";
    let tried = unshare(&["sh", "-c", up]).output();
    if !tried.as_ref().is_ok_and(|done| done.status.success()) {
        let why = match tried {
            Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
            Err(error) => format!("unshare: {error}"),
        };
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "{test} did not run: this system gives no network namespaces ({why})"
        );
        println!("SKIPPED {test}: this system gives no network namespaces ({why})");
        return false;
    }
    let up = "ip link set lo up && exec \"$@\"";
    let program = std::env::current_exe().unwrap();
    let mut running = unshare(&["sh", "-c", up, "sh", program.to_str().unwrap()])
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Held until it has ended: see below.
    let _stdin = running.stdin.take();
    let status = running.wait().unwrap();
    assert!(status.success(), "{test} in a network of its own: {status}");
    false
}

/// Its input ends when the process that waits for it does, even if that was killed.
fn end_with_the_outer_process() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}

/// A node's namespace. It lasts as long as the process that holds it, which ends with its input.
pub struct Space {
    holder: Child,
    _input: ChildStdin,
}

impl Space {
    /// A namespace for node `place`, and the wire between it and the hub.
    pub fn new(place: usize) -> Space {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = holder.stdin.take().unwrap();
        let mut said = String::new();
        let output = holder.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut said).unwrap();
        assert_eq!(said, "\n", "no namespace for node {place}");
        let space = Space {
            holder,
            _input: input,
        };
        let (hub, address, alias, pid) = (hub(place), address(place), alias(place), space.pid());
        sh(&format!(
            "ip link add name v{place} type veth peer name e0 netns {pid} && ip address add {hub}/24 dev v{place} && \
             ip link set v{place} up && ip address add {alias}/32 dev lo"
        ));
        let inside = format!(
            "ip link set lo up && ip address add {address}/24 dev e0 && ip link set e0 up && ip route add default via {hub}"
        );
        sh(&format!("nsenter --target {pid} --net sh -c '{inside}'"));
        space
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    /// The beginning of a command that runs in this namespace; the process becomes the program itself.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid(), "--net", program]);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Node `place` without a namespace of its own: its addresses are this machine's.
pub fn nearby(place: usize) {
    for address in [hub(place), address(place), alias(place)] {
        sh(&format!("ip address add {address}/32 dev lo"));
    }
}

/// Takes the wire of node `place` away, or puts it back: packets vanish, and nobody is told.
pub fn plug(place: usize, is_in: bool) {
    let to = if is_in { "up" } else { "down" };
    sh(&format!("ip link set v{place} {to}"));
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-c", script]).output().unwrap();
    if !done.status.success() {
        let _ = std::io::stderr().write_all(&done.stderr);
        panic!("{}: {script}", done.status);
    }
}
