//! What the whole-program tests share: nodes as processes on loopback, their logs, their stores, and chains to feed them.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

pub mod home;
pub mod peer;
pub mod slow;
pub mod started;
pub mod terminal;

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use cairn::chain::{Genesis, SealedHeader, clique};
use cairn::generate::{self, Fork, GeneratedBlock, Params};
use cairn_store::Reader;
use rustix::process::{Pid, Signal, kill_process};
use secp256k1::SecretKey;

/// A step that takes longer than this has failed. Generous: CI has two cores and other things to do, and a node that was lost several
/// times is dialled only every half a minute.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(180);

pub const DEV_SIGNER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// What makes a node seal the development chain, a block a second.
pub const SEALING: [&str; 5] = [
    "--enable-consensus",
    "--validator",
    DEV_SIGNER,
    "--block-interval-ms",
    "1000",
];

pub fn cairn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs a command of cairn's to its end.
pub fn run(args: &[&str]) -> Output {
    cairn().args(args).output().unwrap()
}

pub fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs `cairn`, which must end with this status and say all of this.
#[track_caller]
pub fn fails(args: &[&str], expected_status: i32, says: &[&str]) {
    let output = run(args);
    let said = stderr(&output);
    assert_eq!(status(&output), expected_status, "{args:?}: {said}");
    for what in says {
        assert!(
            said.contains(what),
            "{args:?}: expected {what:?} in: {said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Runs a command that must succeed.
pub fn run_ok(args: &[&str]) -> Output {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    output
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A running node; killed when dropped.
pub struct Node {
    pub child: Child,
    pub datadir: PathBuf,
    pub log: PathBuf,
    pub enode: String,
}

impl Node {
    /// Starts a node in `datadir` on a free port of loopback, and waits until it listens.
    pub fn start(datadir: &Path, args: &[&str]) -> Node {
        Node::start_on(datadir, 0, args)
    }

    pub fn start_on(datadir: &Path, port: u16, args: &[&str]) -> Node {
        let log = datadir.with_extension(format!("{}.log", unique()));
        let child = cairn()
            .arg("--datadir")
            .arg(datadir)
            .args([
                "--listen-addr",
                "127.0.0.1",
                "--p2p-port",
                &port.to_string(),
            ])
            .args(args)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut node = Node {
            child,
            datadir: datadir.into(),
            log,
            enode: String::new(),
        };
        let line = node.wait_log("self=enode://");
        let (_, rest) = line.split_once("self=").unwrap();
        node.enode = rest.split(' ').next().unwrap().into();
        node
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log that holds `what`.
    pub fn wait_log(&mut self, what: &str) -> String {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            let log = self.log();
            // A line without its end is being written.
            let mut lines = log
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(what)) {
                return line.trim_end().into();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the node ended ({ended:?}) without {what:?}:\n{log}"
            );
            assert!(Instant::now() < deadline, "no {what:?} in time:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn head(&self) -> u64 {
        head(&self.datadir)
    }

    pub fn wait_head(&mut self, number: u64) {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while self.head() < number {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the node ended ({ended:?}):\n{}",
                self.log()
            );
            assert!(
                Instant::now() < deadline,
                "head {} instead of {number}:\n{}",
                self.head(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it as Ctrl-C does; it must end with status 0. Gives the time it took.
    pub fn stop(mut self) -> Duration {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
        start.elapsed()
    }

    /// Kills it as a power cut does, as far as a process can feel one.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a node that is expected to end by itself.
pub fn node_to_its_end(datadir: &Path, args: &[&str]) -> Output {
    cairn()
        .arg("--datadir")
        .arg(datadir)
        .args(["--listen-addr", "127.0.0.1", "--p2p-port", "0"])
        .args(args)
        .output()
        .unwrap()
}

pub fn reader(datadir: &Path) -> Reader {
    Reader::open(&datadir.join("blocks")).unwrap()
}

pub fn head(datadir: &Path) -> u64 {
    reader(datadir).snapshot().head().number
}

/// Both stores hold the same chain up to the lower head, and that is at least `number`.
pub fn assert_same_chain(left: &Path, right: &Path, number: u64) {
    let (left, right) = (reader(left), reader(right));
    let (left, right) = (left.snapshot(), right.snapshot());
    let last = left.head().number.min(right.head().number);
    assert!(last >= number, "{last} instead of {number}");
    for number in 0..=last {
        assert_eq!(
            left.hash(number).unwrap(),
            right.hash(number).unwrap(),
            "hash of {number}"
        );
        assert_eq!(
            &*left.header(number).unwrap().unwrap(),
            &*right.header(number).unwrap().unwrap()
        );
        assert_eq!(
            left.body(number).unwrap(),
            right.body(number).unwrap(),
            "body of {number}"
        );
        assert_eq!(
            left.td(number).unwrap(),
            right.td(number).unwrap(),
            "td of {number}"
        );
    }
}

/// Some blocks with some transactions.
pub fn small() -> Params {
    Params {
        blocks: 30,
        txs_per_block: 2,
        seed: 5,
        ..Params::default()
    }
}

/// A generated clique chain as a file of blocks and its genesis file, in `dir`.
pub struct ChainFile {
    pub genesis: PathBuf,
    pub blocks: PathBuf,
    pub head_hash: String,
}

pub fn chain_file(dir: &Path, params: &Params) -> ChainFile {
    let (generated, blocks) = generate::blocks(params);
    let genesis = dir.join("genesis.json");
    std::fs::write(&genesis, &generated.genesis_json).unwrap();
    let path = dir.join("chain.rlp");
    let mut out = Vec::new();
    let mut head: Option<alloy_primitives::B256> = None;
    for block in blocks {
        let mut body = &block.body[..];
        let items = alloy_rlp::Header::decode_bytes(&mut body, true).unwrap();
        alloy_rlp::Header {
            list: true,
            payload_length: block.header.raw.len() + items.len(),
        }
        .encode(&mut out);
        out.extend_from_slice(&block.header.raw);
        out.extend_from_slice(items);
        head = Some(block.header.hash);
    }
    std::fs::write(&path, out).unwrap();
    ChainFile {
        genesis,
        blocks: path,
        head_hash: head.unwrap().to_string(),
    }
}

/// A clique chain with a block a second, and keys to seal it with.
pub struct CliqueNetwork {
    pub genesis: PathBuf,
    /// A file of each key.
    pub keys: Vec<PathBuf>,
    pub addresses: Vec<Address>,
}

/// Writes a genesis and the keys of these bytes into `dir`. The first so many keys are signers.
pub fn clique_network(dir: &Path, keys: &[u8], signers: usize, epoch: u64) -> CliqueNetwork {
    let secret = |byte: u8| SecretKey::from_byte_array(&[byte; 32]).unwrap();
    let address = |byte: &u8| clique::address_of(&secret(*byte));
    let addresses: Vec<Address> = keys.iter().map(address).collect();
    let mut listed = addresses[..signers].to_vec();
    listed.sort();
    let list: String = listed.iter().map(alloy_primitives::hex::encode).collect();
    let genesis = dir.join("genesis.json");
    let json = format!(
        r#"{{"config":{{"chainId":77,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,"eip158Block":0,"byzantiumBlock":0,
        "constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,"berlinBlock":0,"londonBlock":0,
        "clique":{{"period":1,"epoch":{epoch}}}}},"difficulty":"0x1","gasLimit":"0x1c9c380","timestamp":"0x65a00000",
        "extraData":"0x{}{list}{}","alloc":{{}}}}"#,
        "00".repeat(32),
        "00".repeat(65)
    );
    std::fs::write(&genesis, json).unwrap();
    let files = keys.iter().map(|byte| {
        let file = dir.join(format!("signer-{byte}.key"));
        std::fs::write(&file, format!("{byte:02x}").repeat(32)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    });
    CliqueNetwork {
        genesis,
        keys: files.collect(),
        addresses,
    }
}

/// The blocks of `params`, those above `fork` made anew with this mark, so that they are another branch.
pub fn branch(params: &Params, fork: u64, mark: u8) -> Vec<GeneratedBlock> {
    let key = SecretKey::from_slice(&params.signer_key).unwrap();
    let (_, blocks) = generate::blocks(params);
    let mut chain: Vec<GeneratedBlock> = Vec::new();
    for mut block in blocks {
        if block.header.number() > fork {
            let mut header = block.header.header.clone();
            if let Some(parent) = chain.last() {
                header.parent_hash = parent.header.hash;
            }
            match params.fork {
                Fork::London => {
                    let mut extra = header.extra_data.to_vec();
                    extra[31] = mark;
                    header.extra_data = extra.into();
                    clique::seal(&mut header, &key);
                }
                Fork::Prague => header.mix_hash.0[0] ^= mark,
            }
            block.header = SealedHeader::from_header(header);
        }
        chain.push(block);
    }
    chain
}

/// The folder of real chains, where there is one. With CAIRN_DATA set the folder must be there.
pub fn data() -> Option<PathBuf> {
    match std::env::var_os("CAIRN_DATA") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_dir(),
                "CAIRN_DATA is {}, which is no folder",
                path.display()
            );
            Some(path)
        }
        None => {
            println!("skipped: CAIRN_DATA is not set");
            None
        }
    }
}

pub fn genesis_of(path: &Path) -> Genesis {
    Genesis::from_json(&std::fs::read(path).unwrap()).unwrap()
}

/// Waits until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + STEP_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
