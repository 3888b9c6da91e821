//! genesis.json as geth and Besu write it, and what is wrong in it.

use alloy_primitives::{U256, b256};
use secp256k1::SecretKey;
use serde_json::{Value, json};

use super::{addresses, extra};
use crate::chain::{
    BlobParams, CliqueConfig, DEV_KEYS, DEV_SIGNER_KEY, Genesis, GenesisError, Rules, clique,
};

fn read(text: &Value) -> Result<Genesis, GenesisError> {
    Genesis::from_json(text.to_string().as_bytes())
}

/// A genesis that says little.
fn plain() -> Value {
    json!({
        "config": { "chainId": 7 },
        "difficulty": "0x20000",
        "gasLimit": "0x2fefd8",
        "alloc": {}
    })
}

fn with(path: &[&str], value: Value) -> Value {
    let mut whole = plain();
    let mut place = &mut whole;
    for key in path {
        place = &mut place[*key];
    }
    *place = value;
    whole
}

#[test]
fn mainnet_and_sepolia_have_the_hashes_that_everybody_knows() {
    let mainnet = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
    let sepolia = b256!("25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9");
    assert_eq!(Genesis::mainnet().header.hash, mainnet);
    assert_eq!(Genesis::sepolia().header.hash, sepolia);
    let chain_id = |hash| Genesis::builtin(hash).map(|genesis| genesis.spec.chain_id);
    assert_eq!(chain_id(mainnet), Some(U256::from(1)));
    assert_eq!(chain_id(sepolia), Some(U256::from(11_155_111)));
    assert_eq!(chain_id(Genesis::dev().header.hash), Some(U256::from(1337)));
    assert_eq!(
        chain_id(b256!(
            "0000000000000000000000000000000000000000000000000000000000000001"
        )),
        None
    );
}

#[test]
fn the_development_chain_is_clique_with_the_signer_everybody_knows() {
    let dev = Genesis::dev();
    // Data folders are bound to this hash: a change of dev.json makes them useless.
    assert_eq!(
        dev.header.hash,
        b256!("d4321c6f6f6407888c510aba11cb854a030a749ce56fc3825f473988077fbeba")
    );
    assert!(dev.warnings.is_empty());
    let config = CliqueConfig {
        period_s: 1,
        epoch: 30_000,
    };
    assert_eq!(dev.spec.clique, Some(config));
    let signer = clique::address_of(&SecretKey::from_slice(&DEV_SIGNER_KEY).unwrap());
    assert_eq!(
        signer.to_string(),
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    );
    let tip = Rules::new(&dev).genesis_tip();
    assert_eq!(tip.clique.unwrap().signers(), [signer]);
    let json: Value = serde_json::from_str(Genesis::dev_json()).unwrap();
    let funded = json["alloc"].as_object().unwrap();
    assert_eq!(funded.len(), DEV_KEYS.len());
    for secret in DEV_KEYS {
        let address = clique::address_of(&SecretKey::from_slice(&secret).unwrap());
        assert!(
            funded.contains_key(&alloy_primitives::hex::encode(address)),
            "{address}"
        );
    }
}

#[test]
fn numbers_are_read_in_every_form_that_real_files_have() {
    for number in [
        json!(3141592),
        json!("3141592"),
        json!("0x2fefd8"),
        json!("0x00002fefd8"),
    ] {
        let genesis = read(&with(&["gasLimit"], number)).unwrap();
        assert_eq!(genesis.header.header.gas_limit, 3_141_592);
    }
    let long = "35039958740849263516136087381459012528369084397061947147216452157383146382873";
    let text = plain()
        .to_string()
        .replace("\"chainId\":7", &format!("\"chainId\":{long}"));
    let genesis = Genesis::from_json(text.as_bytes()).unwrap();
    assert_eq!(genesis.spec.chain_id.to_string(), long);
}

#[test]
fn accounts_make_the_state_root() {
    // An account of hive's genesis files, spelled in two ways.
    let root = |alloc: Value| {
        read(&with(&["alloc"], alloc))
            .unwrap()
            .header
            .header
            .state_root
    };
    let short = json!({ "cf49fda3be353c69b41ed96333cd24302da4556f": { "balance": "0x10" } });
    let long = json!({ "0xCF49fda3be353c69b41ed96333cd24302da4556f": {
        "balance": "16", "nonce": "0x0", "code": "0x", "comment": "ignored", "privateKey": "ignored",
        "storage": { "0x01": "0x00" }
    } });
    assert_eq!(root(short), root(long));
    assert_eq!(
        root(json!({})),
        b256!("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
    );
    // Storage keys and values may be short.
    let storage = |key: &str, value: &str| {
        root(json!({ "cf49fda3be353c69b41ed96333cd24302da4556f": { "storage": { key: value } } }))
    };
    assert_eq!(
        storage("0x1", "0x2"),
        storage(&format!("{:064x}", 1), &format!("0x{:064x}", 2))
    );
    assert_ne!(storage("0x1", "0x2"), storage("0x1", "0x3"));
}

#[test]
fn the_fields_of_the_forks_at_genesis_are_in_the_header() {
    let mut text = plain();
    text["config"] = json!({ "chainId": 7, "londonBlock": 0, "terminalTotalDifficulty": 0 });
    let header = read(&text).unwrap().header.header;
    assert_eq!(header.base_fee_per_gas, Some(1_000_000_000));
    assert_eq!(header.withdrawals_root, None);
    text["baseFeePerGas"] = json!("0x7");
    text["config"]["shanghaiTime"] = json!(0);
    let genesis = read(&text).unwrap();
    assert_eq!(genesis.header.header.base_fee_per_gas, Some(7));
    assert!(genesis.header.header.withdrawals_root.is_some());
    assert_eq!(&genesis.body[..], [0xc3, 0xc0, 0xc0, 0xc0]);
    text["config"]["cancunTime"] = json!(0);
    text["excessBlobGas"] = json!("0x20000");
    let header = read(&text).unwrap().header.header;
    assert_eq!(header.excess_blob_gas, Some(131_072));
    assert_eq!(header.blob_gas_used, Some(0));
    assert!(header.parent_beacon_block_root.is_some());
    assert_eq!(header.requests_hash, None);
    text["config"]["pragueTime"] = json!(0);
    let header = read(&text).unwrap().header.header;
    assert_eq!(
        header.requests_hash,
        Some(b256!(
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ))
    );
    text["timestamp"] = json!(5);
    text["config"]["pragueTime"] = json!(6);
    assert_eq!(read(&text).unwrap().header.header.requests_hash, None);
}

/// geth takes it too: nothing is executed there. Found by the fuzz target `genesis`.
#[test]
fn a_first_block_may_claim_gas_that_nothing_used() {
    for gas_used in ["0x5", "0x2fefd8", "0xffffffffffffffff"] {
        let genesis = read(&with(&["gasUsed"], json!(gas_used))).unwrap();
        let judged = Rules::new(&genesis).check_body(&genesis.header, &genesis.body);
        assert_eq!(judged, Ok(()), "{gas_used}");
    }
}

#[test]
fn cliques_keys_are_geths_or_besus() {
    let clique = |config: Value| {
        let mut text = with(&["config", "clique"], config);
        text["extraData"] = json!(extra(&addresses("A")).to_string());
        read(&text).map(|genesis| genesis.spec.clique.unwrap())
    };
    let expected = CliqueConfig {
        period_s: 10,
        epoch: 99,
    };
    assert_eq!(clique(json!({ "period": 10, "epoch": 99 })), Ok(expected));
    let besu = json!({ "blockperiodseconds": 10, "epochlength": 99, "createemptyblocks": true });
    assert_eq!(clique(besu), Ok(expected));
    let silent = |period_s| {
        Ok(CliqueConfig {
            period_s,
            epoch: 30_000,
        })
    };
    assert_eq!(clique(json!({})), silent(0));
    assert_eq!(clique(json!({ "epoch": 0 })), silent(0));
    assert_eq!(clique(json!({ "epochlength": 30_000 })), silent(15));
    let both = clique(json!({ "period": 10, "blockperiodseconds": 11 }));
    assert_eq!(both.unwrap_err().path, "config.clique.blockperiodseconds");
}

#[test]
fn no_config_means_frontier_with_a_warning() {
    let mut text = plain();
    text.as_object_mut().unwrap().remove("config");
    let genesis = read(&text).unwrap();
    assert_eq!(genesis.spec.forks, crate::chain::Forks::default());
    assert_eq!(genesis.warnings.len(), 1);
    assert!(genesis.warnings[0].contains("Frontier"));
}

#[test]
fn keys_that_look_like_forks_are_warned_about_and_others_are_not() {
    let mut text = plain();
    text["config"] = json!({
        "chainId": 7, "yolov3Block": 0, "futureEipsTime": 9, "eip150Hash": "0x00", "contractSizeLimit": 1,
        "constantinopleFixBlock": 0, "mergeNetSplitBlock": 0, "depositContractAddress": "0x00", "ethash": {}
    });
    let genesis = read(&text).unwrap();
    let named = |key: &str| genesis.warnings.iter().any(|warning| warning.contains(key));
    assert!(named("config.yolov3Block") && named("config.futureEipsTime"));
    assert_eq!(genesis.warnings.len(), 2, "{:?}", genesis.warnings);
    assert_eq!(genesis.spec.forks.petersburg, Some(0));
    assert_eq!(genesis.spec.forks.merge_netsplit, Some(0));
}

#[test]
fn a_rollup_may_have_transactions_of_its_own() {
    let genesis = read(&with(&["config", "scroll"], json!({}))).unwrap();
    assert!(genesis.spec.foreign_transactions);
    assert_eq!(genesis.warnings.len(), 1);
    assert!(!read(&plain()).unwrap().spec.foreign_transactions);
}

#[test]
fn blob_parameters_are_those_given_and_else_mainnets() {
    let mut text = plain();
    text["config"] = json!({
        "chainId": 7, "cancunTime": 10, "pragueTime": 20, "osakaTime": 30, "bpo1Time": 40,
        "blobSchedule": { "prague": { "target": 1, "max": 2, "baseFeeUpdateFraction": 3 } }
    });
    let spec = read(&text).unwrap().spec;
    let given = BlobParams {
        target: 1,
        max: 2,
        update_fraction: 3,
    };
    let table = [
        (10, BlobParams::CANCUN),
        (20, given),
        (30, given),
        (40, BlobParams::BPO1),
    ];
    for (time_s, params) in table {
        assert_eq!(spec.blob_params(time_s), Some(params), "{time_s}");
    }
    text["config"]["bpo3Time"] = json!(60);
    assert_eq!(read(&text).unwrap_err().path, "config.blobSchedule.bpo3");
}

#[test]
fn an_error_names_place_expected_and_found() {
    let account = "cf49fda3be353c69b41ed96333cd24302da4556f";
    let hash = format!("0x{}", "0".repeat(63));
    let cases: [(&[&str], Value, &str); 22] = [
        (&["gasLimit"], json!("0xzz"), "gasLimit"),
        (&["gasLimit"], json!(""), "gasLimit"),
        (&["gasLimit"], json!("0x"), "gasLimit"),
        (&["gasLimit"], json!(-1), "gasLimit"),
        (&["gasLimit"], json!(1.5), "gasLimit"),
        (&["gasLimit"], json!("0x10000000000000000"), "gasLimit"),
        (&["gasLimit"], Value::Null, "gasLimit"),
        (&["difficulty"], Value::Null, "difficulty"),
        (&["alloc"], Value::Null, "alloc"),
        (&["alloc"], json!([]), "alloc"),
        (&["number"], json!(1), "number"),
        (&["mixHash"], json!(hash), "mixHash"),
        (&["coinbase"], json!("0x00"), "coinbase"),
        (&["extraData"], json!("0x123"), "extraData"),
        (&["config"], json!(7), "config"),
        (&["config", "chainId"], Value::Null, "config.chainId"),
        (
            &["config", "londonBlock"],
            json!(true),
            "config.londonBlock",
        ),
        (
            &["config", "daoForkSupport"],
            json!("yes"),
            "config.daoForkSupport",
        ),
        (&["config", "qbft"], json!({}), "config.qbft"),
        (&["config", "clique"], json!({}), "extraData"),
        (
            &["config", "blobSchedule"],
            json!({ "cancun": { "target": 3, "max": 2, "baseFeeUpdateFraction": 1 } }),
            "config.blobSchedule.cancun.max",
        ),
        (&["alloc", "12"], json!({}), "alloc.12"),
    ];
    for (path, value, expected) in cases {
        let error = read(&with(path, value.clone())).unwrap_err();
        assert_eq!(error.path, expected, "{value}");
        assert!(!error.expected.is_empty() && !error.found.is_empty());
    }
    for (key, value) in [
        ("balance", json!("x")),
        ("nonce", json!("0x1ffffffffffffffff")),
        ("code", json!(5)),
    ] {
        let error = read(&with(&["alloc", account, key], value)).unwrap_err();
        assert_eq!(error.path, format!("alloc.{account}.{key}"));
    }
    let slot = with(&["alloc", account, "storage", "0x01"], json!("0xg"));
    assert_eq!(
        read(&slot).unwrap_err().path,
        format!("alloc.{account}.storage.0x01")
    );
    let error = read(&with(&["gasLimit"], json!("0xzz"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "genesis: gasLimit: expected a number of at most 256 bits, decimal or 0x and hex, found \"0xzz\""
    );
}

#[test]
fn what_is_there_twice_is_an_error() {
    let twice = [
        (
            r#"{"config":{"chainId":1,"chainId":2},"difficulty":1,"gasLimit":1,"alloc":{}}"#,
            "config.chainId",
        ),
        (
            r#"{"difficulty":1,"gasLimit":1,"gasLimit":1,"alloc":{}}"#,
            "gasLimit",
        ),
        (
            r#"{"difficulty":1,"gasLimit":1,"alloc":{"aa":{},"aa":{}}}"#,
            "alloc.aa",
        ),
        (
            r#"{"difficulty":1,"gasLimit":1,"mixHash":"0x00","mixhash":"0x00","alloc":{}}"#,
            "mixhash",
        ),
        (
            r#"{"difficulty":1,"gasLimit":1,"alloc":{
                "cf49fda3be353c69b41ed96333cd24302da4556f":{},"0xCF49FDA3BE353C69B41ED96333CD24302DA4556F":{}}}"#,
            "alloc.0xCF49FDA3BE353C69B41ED96333CD24302DA4556F",
        ),
        (
            r#"{"difficulty":1,"gasLimit":1,"alloc":{
                "cf49fda3be353c69b41ed96333cd24302da4556f":{"storage":{"0x01":"0x1","0x1":"0x1"}}}}"#,
            "alloc.cf49fda3be353c69b41ed96333cd24302da4556f.storage.0x1",
        ),
    ];
    for (text, path) in twice {
        let error = Genesis::from_json(text.as_bytes()).unwrap_err();
        assert_eq!(error.path, path);
        assert!(error.expected.contains("once"), "{error}");
    }
}

#[test]
fn forks_out_of_order_are_an_error() {
    let order = |config: Value| read(&with(&["config"], config)).map(|_| ());
    let early = json!({ "chainId": 1, "berlinBlock": 9, "londonBlock": 8 });
    assert_eq!(order(early).unwrap_err().path, "config.londonBlock");
    let early = json!({ "chainId": 1, "shanghaiTime": 9, "cancunTime": 8 });
    assert_eq!(order(early).unwrap_err().path, "config.cancunTime");
    let free = json!({ "chainId": 1, "homesteadBlock": 9, "daoForkBlock": 3, "eip150Block": 9 });
    assert_eq!(order(free), Ok(()));
}

#[test]
fn what_is_no_json_is_an_error_and_no_panic() {
    let deep = "[".repeat(100_000);
    for text in ["", "{", "7", "[]", "\u{0}", "{\"a\":}", &deep] {
        assert!(Genesis::from_json(text.as_bytes()).is_err());
    }
    let text = plain().to_string();
    for end in 0..text.len() {
        assert!(Genesis::from_json(&text.as_bytes()[..end]).is_err());
    }
}
