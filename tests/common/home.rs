//! A data folder with a key, and the external signer that has it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use cairn::chain::clique::signer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{cairn, reader, run_ok, text};

/// A data folder of a chain that one key may seal, and the password of that key.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub data: PathBuf,
    pub password: PathBuf,
    pub address: String,
    pub key_file: PathBuf,
}

pub fn secret_file(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn json_of(args: &[&str]) -> Value {
    serde_json::from_slice(&run_ok(args).stdout).unwrap()
}

impl Home {
    pub fn new() -> Home {
        Home::of_period(1)
    }

    /// The key is made by `cairn account new`; the light parameters, for the tests' sake.
    pub fn of_period(period_s: u64) -> Home {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("d");
        let password = dir.path().join("password");
        secret_file(&password, "correct horse\nanother line\n", 0o600);
        let made = json_of(&[
            "account",
            "new",
            "--datadir",
            text(&data),
            "--password",
            text(&password),
            "--lightkdf",
            "--json",
        ]);
        let address = made["address"].as_str().unwrap().to_owned();
        let genesis = dir.path().join("genesis.json");
        std::fs::write(&genesis, genesis_for(&address, period_s)).unwrap();
        run_ok(&["init", "--datadir", text(&data), text(&genesis)]);
        Home {
            key_file: made["file"].as_str().unwrap().into(),
            dir,
            data,
            password,
            address,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("signer.sock")
    }

    /// Starts the external signer, and waits until it listens.
    pub fn signer(&self) -> Signer {
        let child = cairn()
            .args([
                "signer",
                "--datadir",
                text(&self.data),
                "--validator",
                &self.address,
            ])
            .args([
                "--password",
                text(&self.password),
                "--listen",
                text(&self.socket()),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut signer = Signer(child);
        let mut line = String::new();
        BufReader::new(signer.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("Signing for 0x"), "{line}");
        signer
    }

    pub fn by_socket(&self) -> [String; 5] {
        [
            "--enable-consensus".into(),
            "--validator".into(),
            self.address.clone(),
            "--signer".into(),
            format!("unix:{}", self.socket().display()),
        ]
    }
}

pub struct Signer(Child);

impl Signer {
    /// Ends it by this signal, and gives what it logged.
    pub fn end(mut self, signal: Signal) -> (bool, String) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        let status = self.0.wait().unwrap();
        let mut log = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (status.success(), log)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn genesis_for(address: &str, period_s: u64) -> String {
    format!(
        r#"{{"config":{{"chainId":77,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,"eip158Block":0,"byzantiumBlock":0,
        "constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,"berlinBlock":0,"londonBlock":0,
        "clique":{{"period":{period_s},"epoch":5}}}},"difficulty":"0x1","gasLimit":"0x1c9c380","timestamp":"0x65a00000",
        "extraData":"0x{}{}{}","alloc":{{}}}}"#,
        "00".repeat(32),
        address[2..].to_lowercase(),
        "00".repeat(65)
    )
}

/// Who sealed a stored block.
pub fn sealed_by(data: &Path, number: u64) -> String {
    let raw = reader(data)
        .snapshot()
        .header(number)
        .unwrap()
        .unwrap()
        .to_vec();
    let header = cairn::chain::SealedHeader::decode(raw.into())
        .unwrap()
        .header;
    signer(&header).unwrap().to_string()
}
