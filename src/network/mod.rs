//! The command `cairn network new`: a clique network of one's own, ready to be started.
//!
//! ```text
//! DIR/README.md            what to do
//! DIR/genesis.json         the chain
//! DIR/signer1/             a node, and all that it needs; follower1 and so on are without the signer's key
//!   genesis.json           the same
//!   nodekey                secret, mode 0600
//!   data/keystore/UTC--... the signer's key, encrypted, and
//!   password               its password, both 0600; with `--raw-keys` the key is in signer.key
//!   peers                  the others' enode URLs, a line each
//!   start.sh               runs the node; its data folder is `data`, which gets the chain at the first start
//!   cairn-CHAINID-signer1.service
//! ```
//!
//! All of it is made in a folder beside DIR that gets DIR's name when it is whole: a run that fails leaves nothing to clear away.

mod files;
mod genesis;
mod keys;
mod plan;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, hex};
use cairn_net::enode::{EnodeUrl, NodeId};
use secp256k1::{Secp256k1, SecretKey};
use serde::Serialize;

use self::keys::Form;
use self::plan::Place;
use crate::chain::Genesis;
use crate::cli::NewNetwork;
use crate::clock::unix_s;
use crate::config::ConfigError;
use crate::datadir::{DataDirError, io_error, random_key, write_whole};
use crate::secret::SigningKey;

/// Chain ids that are drawn: above those that networks have chosen by hand, and small enough for every wallet.
const CHAIN_IDS: std::ops::Range<u64> = 1 << 24..1 << 31;

/// A network that was made.
#[derive(Debug, Serialize)]
pub struct Made {
    /// Its folder.
    pub out: PathBuf,
    /// Of the genesis.
    pub chain_id: u64,
    /// Hash of block 0.
    pub genesis: String,
    /// Seconds between blocks.
    pub period_s: u64,
    /// Blocks between checkpoints.
    pub epoch: u64,
    /// The signers first.
    pub nodes: Vec<MadeNode>,
}

/// A node of it.
#[derive(Debug, Serialize)]
pub struct MadeNode {
    /// The name of its folder.
    pub name: String,
    /// What it seals as, if it does.
    pub signer: Option<String>,
    /// Where it is reached.
    pub enode: String,
    /// What runs it.
    pub start: PathBuf,
}

/// A node with its keys, before they are written.
struct Node {
    place: Place,
    node_key: SecretKey,
    signer: Option<SigningKey>,
}

impl Node {
    fn draw(place: Place) -> Result<Node, DataDirError> {
        let signer = match place.seals {
            true => Some(SigningKey::random().map_err(no_randomness)?),
            false => None,
        };
        Ok(Node {
            node_key: random_key()?,
            signer,
            place,
        })
    }

    fn address(&self) -> Option<Address> {
        self.signer.as_ref().map(SigningKey::address)
    }

    fn enode(&self) -> String {
        let id = NodeId::from_public_key(&self.node_key.public_key(&Secp256k1::signing_only()));
        let url = format!("enode://{id}@{}", self.place.authority());
        debug_assert!(url.parse::<EnodeUrl>().is_ok(), "{url}");
        url
    }

    /// Writes its folder.
    fn write(
        &self,
        folder: &Path,
        chain_id: u64,
        genesis: &str,
        peers: &[String],
        form: Form,
        program: &Path,
    ) -> Result<(), ConfigError> {
        let mut builder = fs::DirBuilder::new();
        let made = builder.mode(0o700).create(folder);
        made.map_err(|source| io_error("make", folder, source))?;
        let write =
            |name: &str, text: &str, mode| write_whole(&folder.join(name), text.as_bytes(), mode);
        write("genesis.json", genesis, 0o644)?;
        write("nodekey", &hex::encode(self.node_key.secret_bytes()), 0o600)?;
        if let Some(signer) = &self.signer {
            form.write(signer, folder)?;
        }
        let lines: String = peers.iter().map(|url| format!("{url}\n")).collect();
        write("peers", &lines, 0o644)?;
        let script = files::start_script(&self.place, self.address(), form, program);
        write("start.sh", &script, 0o755)?;
        let unit = format!("{}.service", files::service(chain_id, &self.place));
        write(&unit, &files::unit(chain_id, &self.place), 0o644)?;
        Ok(())
    }
}

/// Makes the network that was typed.
///
/// # Errors
/// `Usage` for what cannot be, `Folder` for what the machine refuses, such as a folder that has something in it.
pub fn new(typed: &NewNetwork) -> Result<Made, ConfigError> {
    let places = plan::places(typed)?;
    let program = std::env::current_exe().unwrap_or_else(|_| "cairn".into());
    let (parent, out) = place_of(&typed.out)?;
    let nodes: Vec<Node> = places
        .into_iter()
        .map(Node::draw)
        .collect::<Result<_, _>>()?;
    let chain_id = match typed.chain_id {
        Some(id) => id,
        None => draw_chain_id()?,
    };
    let pace = (typed.period, typed.epoch);
    let form = match typed.raw_keys {
        true => Form::Raw,
        false => Form::Keystore,
    };
    let signers: Vec<Address> = nodes.iter().filter_map(Node::address).collect();
    let json = genesis::json(chain_id, pace, unix_s(), &signers);
    let genesis = Genesis::from_json(json.as_bytes()).expect("a genesis of our own making");
    let hash = genesis.header.hash.to_string();
    let urls: Vec<String> = nodes.iter().map(Node::enode).collect();

    fs::create_dir_all(&parent).map_err(|source| io_error("make", &parent, source))?;
    // Open to its owner alone, and gone with all in it if something fails.
    let making = tempfile::Builder::new()
        .prefix(".cairn-network-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .map_err(|source| io_error("make a folder in", &parent, source))?;
    for (index, node) in nodes.iter().enumerate() {
        let others = urls.iter().enumerate();
        let others = others.filter(|(other, _)| *other != index);
        let peers: Vec<String> = others.map(|(_, url)| url.clone()).collect();
        node.write(
            &making.path().join(&node.place.name),
            chain_id,
            &json,
            &peers,
            form,
            &program,
        )?;
    }
    write_whole(&making.path().join("genesis.json"), json.as_bytes(), 0o644)?;
    let table: Vec<_> = nodes
        .iter()
        .map(|node| (&node.place, node.address()))
        .collect();
    let readme = files::readme(chain_id, pace, &hash, &table, form);
    write_whole(&making.path().join("README.md"), readme.as_bytes(), 0o644)?;
    // In the place of a folder only if that is empty: the system sees to it.
    fs::rename(making.path(), &out).map_err(|source| refused(&out, source))?;
    // It has its own name now: there is nothing to be cleared away.
    let _ = making.keep();
    fs::File::open(&parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| io_error("write", &parent, source))?;

    let made = nodes.iter().zip(urls).map(|(node, enode)| MadeNode {
        name: node.place.name.clone(),
        signer: node.address().map(|signer| signer.to_string()),
        enode,
        start: out.join(&node.place.name).join("start.sh"),
    });
    Ok(Made {
        chain_id,
        genesis: hash,
        period_s: typed.period,
        epoch: typed.epoch,
        nodes: made.collect(),
        out,
    })
}

/// The folder to make, and the one that it is in. It is looked at before any key is drawn.
fn place_of(out: &Path) -> Result<(PathBuf, PathBuf), ConfigError> {
    let (Some(_), Some(parent)) = (out.file_name(), out.parent()) else {
        return Err(ConfigError::Usage(format!(
            "--out {}: expected the name of a folder to make",
            out.display()
        )));
    };
    match fs::read_dir(out) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(refused(out, io::ErrorKind::DirectoryNotEmpty.into()).into());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(refused(out, source).into()),
    }
    let parent = match parent == Path::new("") {
        true => Path::new("."),
        false => parent,
    };
    Ok((parent.into(), out.into()))
}

fn refused(out: &Path, source: io::Error) -> DataDirError {
    let source = match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => io::Error::other(
            "there is something in it, which is left as it is; name another folder, or empty this one",
        ),
        io::ErrorKind::NotADirectory => io::Error::other("it is no folder"),
        _ => source,
    };
    io_error("make a network in", out, source)
}

fn draw_chain_id() -> Result<u64, DataDirError> {
    let drawn = getrandom::u64().map_err(no_randomness)?;
    Ok(CHAIN_IDS.start + drawn % (CHAIN_IDS.end - CHAIN_IDS.start))
}

fn no_randomness(error: getrandom::Error) -> DataDirError {
    let source = io::Error::other(error.to_string());
    io_error("read randomness for", Path::new("a network"), source)
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Made      {}", self.out.display())?;
        writeln!(
            f,
            "Chain     {}, a block every {} s",
            self.chain_id, self.period_s
        )?;
        writeln!(f, "Genesis   {}", self.genesis)?;
        for node in &self.nodes {
            let seals = match &node.signer {
                Some(signer) => format!(" seals as {signer}"),
                None => String::new(),
            };
            writeln!(f, "  {}{seals}", node.name)?;
        }
        let readme = self.out.join("README.md");
        writeln!(f, "Start     each node by its own script, such as")?;
        writeln!(f, "          sh {}", self.nodes[0].start.display())?;
        writeln!(f, "More      in {}", readme.display())
    }
}
