//! The program `cairn`: arguments -> what they mean -> the work -> exit status.
#![allow(clippy::print_stderr)] // the one place that tells people why the program ends

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn::cli::{
    AccountCommand, Cli, CliqueCommand, Command, Common, Format, NetworkCommand, SignerOptions,
};
use cairn::clock::unix_s;
use cairn::config::{self, Config, ConfigError};
use cairn::datadir::{self, Made};
use cairn::demo::{self, DemoOptions};
use cairn::export::{self, ExportError};
use cairn::import::{Found, ImportError};
use cairn::signed::{self, Record};
use cairn::signer::SignerRole;
use cairn::status::{Report, health_line};
use cairn::{account, import, ipc, logging, memory, network, node, secret, voting};
use cairn_store::{Reader, Writer};
use clap::Parser as _;
use serde::Serialize;

/// Why the program ends otherwise than well: what to say, and the exit status.
struct Failure {
    what: String,
    status: u8,
}

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    memory::set_up();
    let cli = Cli::parse();
    logging::start(cli.common.verbosity);
    if cli.has_key()
        && let Err(why) = secret::shut_memory()
    {
        return failed(format!("cannot keep keys out of core dumps: {why}")).exit();
    }
    let done = match &cli.command {
        None => Config::new(&cli.common, &cli.run)
            .map_err(Failure::from)
            .and_then(|config| node::run(config).map_err(failed)),
        Some(Command::Init { genesis }) => init(&cli.common, genesis.as_deref()),
        Some(Command::Import { file }) => import(&cli.common, file),
        Some(Command::Export {
            file,
            first,
            last,
            format,
        }) => export(&cli.common, file, (*first, *last), *format),
        Some(Command::Status { check: false }) => status(&cli.common),
        Some(Command::Status { check: true }) => check(&cli.common),
        Some(Command::Clique(command)) => clique(&cli.common, command),
        Some(Command::Network(NetworkCommand::New(typed))) => network::new(typed)
            .map_err(Failure::from)
            .and_then(|made| print(&cli.common, &made, &made.to_string())),
        Some(Command::Account(command)) => account(&cli.common, command),
        Some(Command::Signer(options)) => signer(&cli.common, options),
        Some(Command::Demo {
            keep,
            blocks,
            live,
            txs,
            body_bytes,
        }) => {
            let options = DemoOptions {
                keep: *keep,
                blocks: *blocks,
                live: *live,
                txs_per_block: *txs,
                body_bytes: *body_bytes,
                quiet: cli.common.verbosity < 3,
                stop: match stop_flag() {
                    Ok(stop) => stop,
                    Err(failure) => return failure.exit(),
                },
            };
            demo(&cli.common, &options)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

#[derive(Serialize)]
struct Initialised {
    datadir: String,
    genesis_hash: String,
    chain_id: String,
    made: bool,
    warnings: Vec<String>,
}

fn init(common: &Common, file: Option<&std::path::Path>) -> Result<(), Failure> {
    let datadir = config::datadir(common)?;
    let (genesis, json) = match (file, config::chosen_genesis(common)) {
        (Some(_), Some(_)) => {
            return Err(usage(
                "give a genesis file, or --mainnet or --sepolia, not both",
            ));
        }
        (None, None) => {
            return Err(usage(
                "which genesis? give its file, or --mainnet or --sepolia",
            ));
        }
        (None, Some(genesis)) => (genesis, None),
        (Some(file), None) => {
            let (genesis, json) = datadir::read_genesis(file).map_err(failed)?;
            (genesis, Some(json))
        }
    };
    let made = datadir.init(&genesis, json.as_deref()).map_err(failed)?;
    let result = Initialised {
        datadir: datadir.path().display().to_string(),
        genesis_hash: genesis.header.hash.to_string(),
        chain_id: genesis.spec.chain_id.to_string(),
        made: made == Made::New,
        warnings: genesis.warnings.clone(),
    };
    for warning in &result.warnings {
        log::warn!("Genesis: {warning}");
    }
    let text = format!(
        "{} {}\nGenesis  {}\nChain id {}\n",
        match made {
            Made::New => "Made    ",
            Made::AlreadyThere => "There is",
        },
        result.datadir,
        result.genesis_hash,
        result.chain_id
    );
    print(common, &result, &text)
}

fn import(common: &Common, file: &std::path::Path) -> Result<(), Failure> {
    let datadir = config::datadir(common)?;
    let (genesis, json) = config::find_genesis(common, &datadir)?;
    let quiet = common.verbosity < 3;
    let stop = stop_flag()?;
    let told = |error: ImportError| match error.wants_file_name() {
        true => failed(format!("{}: {error}", file.display())),
        false => failed(error),
    };
    let found = Found::open(file, quiet, &stop).map_err(told)?;
    found.check_network(&genesis).map_err(told)?;
    config::make_folder_above(&datadir, &genesis, json.as_deref(), found.below())?;
    let writer = Writer::open(&datadir.blocks()).map_err(failed)?;
    let imported = import::import_found(&genesis, writer, found, quiet, &stop).map_err(told)?;
    print(common, &imported, &imported.to_string())
}

fn export(
    common: &Common,
    file: &std::path::Path,
    (first, last): (Option<u64>, Option<u64>),
    format: Option<Format>,
) -> Result<(), Failure> {
    let datadir = config::datadir(common)?;
    let reader = Reader::open(&datadir.blocks()).map_err(failed)?;
    let quiet = common.verbosity < 3;
    let is_era1 = file.extension().is_some_and(|end| end == "era1");
    let exported = match format {
        Some(Format::Era1) | None if is_era1 || format.is_some() => {
            let genesis = datadir.genesis().map_err(failed)?;
            export::export_era1(&reader, &genesis, file, first, last, quiet)
        }
        _ => export::export(&reader, file, first, last, quiet),
    };
    let exported = exported.map_err(|error| Failure {
        status: match error {
            ExportError::Range(_) => WRONG_USAGE,
            _ => FAILED,
        },
        what: error.to_string(),
    })?;
    if file == std::path::Path::new("-") {
        log::info!("{}", exported.to_string().trim_end());
        return Ok(());
    }
    print(common, &exported, &exported.to_string())
}

fn status(common: &Common) -> Result<(), Failure> {
    let socket = config::ipc(&config::datadir(common)?, common);
    let status = ipc::call(&socket, "cairn_status", &serde_json::json!([])).map_err(failed)?;
    let report = Report {
        status: &status,
        now_s: unix_s(),
    };
    print(common, &status, &report.to_string())
}

/// Says whether the node is well, by its exit status too.
fn check(common: &Common) -> Result<(), Failure> {
    let socket = config::ipc(&config::datadir(common)?, common);
    let status = ipc::call(&socket, "cairn_status", &serde_json::json!([])).map_err(failed)?;
    let health = &status["health"];
    let text = health_line(health);
    match health["healthy"].as_bool() {
        Some(true) => print(common, health, &format!("{text}\n")),
        Some(false) => {
            if common.json {
                print(common, health, "")?;
            }
            Err(failed(text))
        }
        None => Err(failed(
            "the node that runs is older than this command and does not tell its health",
        )),
    }
}

fn clique(common: &Common, command: &CliqueCommand) -> Result<(), Failure> {
    let socket = config::ipc(&config::datadir(common)?, common);
    let shown = voting::run(&socket, command).map_err(failed)?;
    print(common, &shown.json, &shown.text)
}

fn account(common: &Common, command: &AccountCommand) -> Result<(), Failure> {
    let datadir = config::datadir(common)?;
    match command {
        AccountCommand::New { options } => {
            let added = account::new(&datadir, options)?;
            print(common, &added, &added.to_string())
        }
        AccountCommand::Import { keyfile, options } => {
            let added = account::import(&datadir, keyfile, options)?;
            print(common, &added, &added.to_string())
        }
        AccountCommand::List => {
            let listed = account::list(&datadir)?;
            print(common, &listed, &listed.to_string())
        }
    }
}

#[derive(Serialize)]
struct Signing {
    address: String,
    listen: String,
}

fn signer(common: &Common, options: &SignerOptions) -> Result<(), Failure> {
    let datadir = config::datadir(common)?;
    let address = options.validator;
    let account = datadir
        .keystore()
        .find(address)
        .map_err(ConfigError::from)?;
    let path = datadir.signed(address);
    if let Some(other) = datadir.record_of_other_role(address, &path) {
        return Err(failed(signed::move_record(&other, &path)));
    }
    let record = Record::open(&path).map_err(failed)?;
    let key = config::unlock(&account, options.password.as_deref())?;
    let stop = stop_flag()?; // not before: Ctrl-C ends the question for the password
    let listen = options.listen.display();
    let role = SignerRole::bind(&options.listen, options.group_access, key, record)
        .map_err(|error| failed(format!("cannot listen at {listen}: {error}")))?;
    // Who waits for this line can be signed for.
    let signing = Signing {
        address: address.to_string(),
        listen: listen.to_string(),
    };
    print(
        common,
        &signing,
        &format!("Signing for {address} at {listen}\n"),
    )?;
    role.run(&stop)
        .map_err(|error| failed(format!("{listen}: {error}")))
}

fn demo(common: &Common, options: &DemoOptions) -> Result<(), Failure> {
    let outcome = demo::run(options).map_err(failed)?;
    print(common, &outcome, &outcome.to_string())?;
    match outcome.same {
        true => Ok(()),
        false => Err(failed("the two nodes differ; see the table")),
    }
}

/// Prints a result, as people read it or as JSON.
fn print(common: &Common, result: &impl Serialize, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let out = if common.json {
        let mut json = serde_json::to_string_pretty(result).map_err(failed)?;
        json.push('\n');
        json
    } else {
        text.into()
    };
    match std::io::stdout().write_all(out.as_bytes()) {
        // Whoever read the pipe has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A flag that Ctrl-C and SIGTERM raise.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once, should the first not be looked at: a pipe may have no writer.
        signal_hook::flag::register_conditional_default(signal, stop.clone()).map_err(failed)?;
        signal_hook::flag::register(signal, stop.clone()).map_err(failed)?;
    }
    Ok(stop)
}

impl Failure {
    /// Tells it, and gives the exit status.
    fn exit(&self) -> ExitCode {
        eprintln!("cairn: {}", self.what);
        ExitCode::from(self.status)
    }
}

fn failed(what: impl ToString) -> Failure {
    Failure {
        what: what.to_string(),
        status: FAILED,
    }
}

fn usage(what: &str) -> Failure {
    Failure {
        what: what.into(),
        status: WRONG_USAGE,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure {
            status: match error.is_usage() {
                true => WRONG_USAGE,
                false => FAILED,
            },
            what: error.to_string(),
        }
    }
}
