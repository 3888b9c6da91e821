//! Ethereum's own tests of blocks: every valid block is accepted, every invalid one that can be judged without being executed is refused.
//! Needs the data folder that CAIRN_DATA names.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use alloy_primitives::{B256, U256, hex};
use bytes::Bytes;
use cairn::chain::{
    BodyError, Fault, Forks, Genesis, OmmerWindow, Rules, SealedHeader, Spec, Tip, body,
};
use serde_json::Value;

/// The rules of a network that the tests name.
fn spec(network: &str) -> Spec {
    let all = Forks {
        homestead: Some(0),
        eip150: Some(0),
        eip155: Some(0),
        eip158: Some(0),
        byzantium: Some(0),
        constantinople: Some(0),
        petersburg: Some(0),
        istanbul: Some(0),
        muir_glacier: Some(0),
        berlin: Some(0),
        london: Some(0),
        arrow_glacier: Some(0),
        gray_glacier: Some(0),
        shanghai_time: Some(0),
        cancun_time: Some(0),
        ..Forks::default()
    };
    let paris = Forks {
        shanghai_time: None,
        cancun_time: None,
        ..all.clone()
    };
    let berlin = Forks {
        london: None,
        arrow_glacier: None,
        gray_glacier: None,
        ..paris.clone()
    };
    let byzantium = Forks {
        constantinople: None,
        petersburg: None,
        istanbul: None,
        muir_glacier: None,
        berlin: None,
        ..berlin.clone()
    };
    let homestead = Forks {
        homestead: Some(0),
        ..Forks::default()
    };
    let at = Some(5);
    let (forks, ttd) = match network {
        "Cancun" => (all, Some(0)),
        "ParisToShanghaiAtTime15k" => (
            Forks {
                shanghai_time: Some(15_000),
                ..paris
            },
            Some(0),
        ),
        "ArrowGlacierToParisAtDiffC0000" => (
            Forks {
                gray_glacier: None,
                ..paris
            },
            Some(0xc0000),
        ),
        "BerlinToLondonAt5" => (
            Forks {
                london: at,
                ..berlin
            },
            None,
        ),
        "ByzantiumToConstantinopleFixAt5" => (
            Forks {
                constantinople: at,
                petersburg: at,
                ..byzantium
            },
            None,
        ),
        "EIP158ToByzantiumAt5" => (
            Forks {
                byzantium: at,
                ..byzantium
            },
            None,
        ),
        "HomesteadToEIP150At5" => (
            Forks {
                eip150: at,
                ..homestead
            },
            None,
        ),
        "HomesteadToDaoAt5" => (
            Forks {
                dao: at,
                dao_support: true,
                ..homestead
            },
            None,
        ),
        "FrontierToHomesteadAt5" => (
            Forks {
                homestead: at,
                ..Forks::default()
            },
            None,
        ),
        other => panic!("no rules for the network {other}"),
    };
    let mut spec = Spec::new(U256::ONE, forks);
    spec.terminal_total_difficulty = ttd.map(U256::from);
    spec
}

fn json_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            json_files(&path, into);
        } else if path.extension().is_some_and(|end| end == "json") {
            into.push(path);
        }
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// The blocks of one test that were accepted, each with what its children are judged by.
struct Chain {
    rules: Rules,
    known: HashMap<B256, (Tip, OmmerWindow)>,
}

impl Chain {
    fn new(test: &Value) -> Self {
        let block = bytes(&test["genesisRLP"]);
        let (header, _) = body::split_block(&block).unwrap();
        let genesis = Genesis {
            spec: spec(test["network"].as_str().unwrap()),
            header: SealedHeader::decode(Bytes::copy_from_slice(header)).unwrap(),
            body: body::body_of_block(&block).unwrap().into(),
            warnings: Vec::new(),
        };
        assert_eq!(
            genesis.header.hash.as_slice(),
            bytes(&test["genesisBlockHeader"]["hash"])
        );
        let rules = Rules::new(&genesis);
        let mut window = OmmerWindow::new();
        window.push(&genesis.header, &genesis.body);
        let known = HashMap::from([(genesis.header.hash, (rules.genesis_tip(), window))]);
        Self { rules, known }
    }

    /// Judges a block. The error is the field that is refused.
    fn judge(&self, block: &[u8]) -> Result<(Tip, OmmerWindow), String> {
        let (header, body) = read(block)?;
        let Some((parent, window)) = self.known.get(&header.header.parent_hash) else {
            return Err("unknown parent".to_owned());
        };
        let header = Arc::new(header);
        let tip = self
            .rules
            .extend(parent, Arc::clone(&header), None)
            .map_err(|error| field(error.fault()))?;
        let refused = |error: BodyError| field(Some(error.fault()));
        self.rules.check_body(&header, &body).map_err(refused)?;
        window.check(&self.rules, &header, &body).map_err(refused)?;
        let mut window = window.clone();
        window.push(&header, &body);
        Ok((tip, window))
    }

    /// Judges the body of a block as if its header committed to the transactions that are there. Most blocks that the tests give for a
    /// bad transaction have a header that does not, so that the transaction is never looked at.
    fn judge_transactions(&self, block: &[u8]) -> Result<(), String> {
        let (header, body) = read(block)?;
        let refused = |error: BodyError| field(Some(error.fault()));
        let mut header = header.header;
        header.transactions_root = body::roots(&body).map_err(refused)?.transactions;
        let header = SealedHeader::from_header(header);
        self.rules.check_body(&header, &body).map_err(refused)
    }
}

fn read(block: &[u8]) -> Result<(SealedHeader, Vec<u8>), String> {
    let refused = |error: BodyError| field(Some(error.fault()));
    let (header, _) = body::split_block(block).map_err(refused)?;
    let header = SealedHeader::decode(Bytes::copy_from_slice(header))
        .map_err(|error| field(error.fault()))?;
    Ok((header, body::body_of_block(block).map_err(refused)?))
}

/// The name of the field at fault, without the place in its list.
fn field(fault: Option<&Fault>) -> String {
    let field = &fault.unwrap().field;
    match (field.split_once('['), field.split_once("].")) {
        (Some((list, _)), Some((_, field))) => format!("{list}.{field}"),
        (Some((list, _)), None) => list.to_owned(),
        _ => field.clone(),
    }
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Counts {
    tests: usize,
    valid: usize,
    refused: usize,
    left_out: usize,
}

#[test]
fn every_block_that_can_be_judged_without_execution_is_judged_right() {
    let Some(data) = std::env::var_os("CAIRN_DATA") else {
        eprintln!("skipped: CAIRN_DATA is not set");
        return;
    };
    let archive = PathBuf::from(data).join("blocktests/ethereum-tests-BlockchainTests.tar.xz");
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(
        status.success(),
        "tar could not unpack {}",
        archive.display()
    );
    let mut files = Vec::new();
    json_files(folder.path(), &mut files);
    files.sort();

    let mut counts = Counts::default();
    let mut refused: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut transactions = refused.clone();
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let tests: BTreeMap<String, Value> =
            serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        for (name, test) in tests {
            counts.tests += 1;
            let mut chain = Chain::new(&test);
            for (index, block) in test["blocks"].as_array().unwrap().iter().enumerate() {
                let rlp = bytes(&block["rlp"]);
                let judged = chain.judge(&rlp);
                let Some(expected) = block.get("expectException").and_then(Value::as_str) else {
                    let (tip, window) = judged
                        .unwrap_or_else(|field| panic!("{name}: valid block {index}: {field}"));
                    assert_eq!(
                        tip.header.hash.as_slice(),
                        bytes(&block["blockHeader"]["hash"])
                    );
                    chain.known.insert(tip.header.hash, (tip, window));
                    counts.valid += 1;
                    continue;
                };
                match judged {
                    Err(field) => {
                        counts.refused += 1;
                        if field == "transactionsRoot" && expected.starts_with("Transaction") {
                            let by_itself = match chain.judge_transactions(&rlp) {
                                Ok(()) => "nothing".to_owned(),
                                Err(field) => field,
                            };
                            *transactions
                                .entry((expected.to_owned(), by_itself))
                                .or_default() += 1;
                        }
                        *refused.entry((expected.to_owned(), field)).or_default() += 1;
                    }
                    Ok(_) => {
                        counts.left_out += 1;
                        *left_out.entry(expected.to_owned()).or_default() += 1;
                    }
                }
            }
        }
    }
    println!("{counts:?}");
    show(
        "refused: the test's reason / the field that we refuse",
        &refused,
    );
    show(
        "bad transactions that only a wrong transactionsRoot gave away: the test's reason / what the transactions show by themselves",
        &transactions,
    );
    for (reason, count) in &left_out {
        println!("{count:5} left out: {reason}");
    }

    let expected = Counts {
        tests: 594,
        valid: 1292,
        refused: 271,
        left_out: 5,
    };
    assert_eq!(counts, expected);
    // What these blocks claim can only be found wrong by executing them.
    let need_execution = [
        ("BlockException.INVALID_GAS_USED", 1),
        ("BlockException.INVALID_LOG_BLOOM", 1),
        ("BlockException.INVALID_RECEIPTS_ROOT", 1),
        ("BlockException.INVALID_STATE_ROOT", 2),
    ];
    let need_execution = need_execution.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(left_out, BTreeMap::from(need_execution));
    let by_themselves = BY_THEMSELVES.map(|(reason, field, count)| {
        let reason = reason
            .split('|')
            .map(|one| format!("TransactionException.{one}"));
        (
            (reason.collect::<Vec<_>>().join("|"), field.to_owned()),
            count,
        )
    });
    assert_eq!(transactions, BTreeMap::from(by_themselves));
}

/// What is found in blocks that the tests give for a bad transaction, were their roots right: the test's reason, the field, how many.
/// Funds, nonces and refunds need execution.
const BY_THEMSELVES: [(&str, &str, usize); 15] = [
    ("GAS_ALLOWANCE_EXCEEDED", "nothing", 2),
    ("GAS_ALLOWANCE_EXCEEDED", "transactions.gas", 2),
    ("INSUFFICIENT_ACCOUNT_FUNDS", "gasUsed", 5),
    ("INSUFFICIENT_ACCOUNT_FUNDS", "nothing", 11),
    (
        "INSUFFICIENT_ACCOUNT_FUNDS|INTRINSIC_GAS_TOO_LOW",
        "transactions.gas",
        3,
    ),
    ("INSUFFICIENT_MAX_FEE_PER_GAS", "transactions.gasPrice", 6),
    (
        "INSUFFICIENT_MAX_FEE_PER_GAS",
        "transactions.maxFeePerGas",
        1,
    ),
    (
        "INSUFFICIENT_MAX_FEE_PER_GAS|GAS_ALLOWANCE_EXCEEDED",
        "transactions.gasPrice",
        1,
    ),
    (
        "INSUFFICIENT_MAX_FEE_PER_GAS|INSUFFICIENT_ACCOUNT_FUNDS",
        "transactions.gasPrice",
        3,
    ),
    ("INTRINSIC_GAS_TOO_LOW", "transactions.gas", 74),
    ("NONCE_MISMATCH_TOO_HIGH", "gasUsed", 1),
    ("NONCE_MISMATCH_TOO_LOW", "gasUsed", 1),
    (
        "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS",
        "transactions.maxPriorityFeePerGas",
        6,
    ),
    ("SENDER_NOT_EOA|INSUFFICIENT_ACCOUNT_FUNDS", "nothing", 1),
    ("TYPE_NOT_SUPPORTED", "transactions.type", 3),
];

fn show(title: &str, counts: &BTreeMap<(String, String), usize>) {
    println!("{title}");
    for ((reason, field), count) in counts {
        println!("{count:5} {reason} / {field}");
    }
}
