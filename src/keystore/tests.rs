//! The vectors of the definition and of go-ethereum, files that ask for too much, and the folder.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::*;

/// A file by its parts, the ones of the vectors.
fn vector(kdf: &str, kdfparams: Value, iv: &str, ciphertext: &str, mac: &str) -> Value {
    json!({
        "crypto": {
            "cipher": "aes-128-ctr", "cipherparams": { "iv": iv }, "ciphertext": ciphertext,
            "kdf": kdf, "kdfparams": kdfparams, "mac": mac,
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    })
}

/// The definition's own vectors (web3 secret storage, "Test Vectors"): password `testpassword`.
fn definition() -> [Value; 2] {
    [
        vector(
            "pbkdf2",
            json!({ "c": 262_144, "dklen": 32, "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd" }),
            "6087dab2f9fdbbfaddc31a909735c1e6",
            "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        ),
        vector(
            "scrypt",
            json!({ "dklen": 32, "n": 262_144, "r": 1, "p": 8,
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19" }),
            "83dbcc02d8ccb40e466191a123791e0e",
            "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
        ),
    ]
}

const DEFINITION_KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

/// go-ethereum's `accounts/keystore/testdata`: `keystore/aaa` (scrypt with n = 8, p = 16), password `foobar`.
fn geth() -> Value {
    let mut file = vector(
        "scrypt",
        json!({ "dklen": 32, "n": 8, "p": 16, "r": 8,
            "salt": "0d6769bf016d45c479213990d6a08d938469c4adad8a02ce507b4a4e7b7739f1" }),
        "dfd9ee70812add5f4b8f89d0811c9158",
        "cb664472deacb41a2e995fa7f96fe29ce744471deb8d146a0e43c7898c9ddd4d",
        "bac9af994b15a45dd39669fc66f9aa8a3b9dd8c22cb16e4d8d7ea089d0f1a1a9",
    );
    file["address"] = "f466859ead1932d743d622cb74fc058882e8648a".into();
    file
}

const GETH_ADDRESS: &str = "0xf466859ead1932d743d622cb74fc058882e8648a";

fn read_json(file: &Value) -> Result<KeyFile, FileError> {
    KeyFile::from_json(file.to_string().as_bytes())
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32]).unwrap()
}

fn password(text: &str) -> Password {
    Password::new(text.as_bytes().to_vec())
}

fn entropy(byte: u8) -> FileEntropy {
    FileEntropy {
        salt: [byte; 32],
        iv: [byte; 16],
        id: [byte; 16],
    }
}

#[test]
fn the_vectors_of_the_definition_are_opened() {
    for file in definition() {
        let file = read_json(&file).unwrap();
        let key = file.unlock(b"testpassword").unwrap();
        assert_eq!(hex::encode(key.key().secret_bytes()), DEFINITION_KEY);
        assert_eq!(file.address(), None);
    }
}

#[test]
fn a_file_of_geths_is_opened_and_a_wrong_password_is_told() {
    let file = read_json(&geth()).unwrap();
    let address: Address = GETH_ADDRESS.parse().unwrap();
    assert_eq!(file.unlock(b"foobar").unwrap().address(), address);
    assert_eq!(
        file.unlock(b"foobaz").unwrap_err(),
        FileError::WrongPassword
    );
    // Files of 2015 have a capital letter there; a derived key that is longer begins with the same bytes.
    let mut old = geth();
    let mut crypto = old["crypto"].take();
    crypto["kdfparams"]["dklen"] = 64.into();
    old.as_object_mut().unwrap().remove("crypto");
    old["Crypto"] = crypto;
    assert_eq!(
        read_json(&old)
            .unwrap()
            .unlock(b"foobar")
            .unwrap()
            .address(),
        address
    );
}

/// go-ethereum's `v3_test_vector.json`, "31_byte_key" and "30_byte_key".
#[test]
fn a_key_that_was_written_without_its_leading_zeros_is_read() {
    for (salt, iv, ciphertext, mac, expected) in [
        (
            "711f816911c92d649fb4c84b047915679933555030b3552c1212609b38208c63",
            "e0c41130a323adc1446fc82f724bca2f",
            "9517cd5bdbe69076f9bf5057248c6c050141e970efa36ce53692d5d59a3984",
            "d5e116151c6aa71470e67a7d42c9620c75c4d23229847dcc127794f0732b0db5",
            "00fa7b3db73dc7dfdf8c5fbdb796d741e4488628c41fc4febd9160a866ba0f35",
        ),
        (
            "d0769e608fb86cda848065642a9c6fa046845c928175662b8e356c77f914cd3b",
            "3ca92af36ad7c2cd92454c59cea5ef00",
            "108b7d34f3442fc26ab1ab90ca91476ba6bfa8c00975a49ef9051dc675aa",
            "75d0e6759f7b3cefa319c3be41680ab6beea7d8328653474bd06706d4cc67420",
            "000081c29e8142bb6a81bef5a92bda7a8328a5c85bb2f9542e76f9b0f94fc018",
        ),
    ] {
        let kdfparams = json!({ "dklen": 32, "n": 2, "r": 8, "p": 1, "salt": salt });
        let file = read_json(&vector("scrypt", kdfparams, iv, ciphertext, mac)).unwrap();
        let key = file.unlock(b"foo").unwrap();
        assert_eq!(hex::encode(key.key().secret_bytes()), expected);
    }
}

#[test]
fn what_is_locked_is_unlocked_by_the_same_password_and_has_geths_light_parameters() {
    let file = KeyFile::lock(&key(7), b"pass", Strength::Light, &entropy(9));
    let json: Value = serde_json::from_str(&file.to_json()).unwrap();
    assert_eq!(json["version"].as_u64(), Some(3));
    assert_eq!(json["address"], hex::encode(key(7).address()));
    assert_eq!(json["id"], "09090909-0909-4909-8909-090909090909");
    let params = &json["crypto"]["kdfparams"];
    let numbers = ["n", "r", "p", "dklen"].map(|name| params[name].as_u64().unwrap());
    assert_eq!(numbers, [4096, 8, 6, 32]);
    let read = read_json(&json).unwrap();
    assert_eq!(read, file);
    assert_eq!(read.unlock(b"pass").unwrap().key(), key(7).key());
    assert_eq!(read.unlock(b"").unwrap_err(), FileError::WrongPassword);
}

#[test]
fn a_file_whose_key_is_anothers_is_not_used() {
    let mut file = geth();
    file["address"] = "7ef5a6135f1fd6a02593eedc869c6d41d934aef8".into();
    let refused = read_json(&file).unwrap().unlock(b"foobar");
    assert!(
        matches!(refused, Err(FileError::OtherAddress { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_file_that_asks_for_more_than_the_limits_is_refused_before_anything_is_derived() {
    let scrypt = |n: u64, r: u64, p: u64| {
        let mut file = geth();
        for (name, value) in [("n", n), ("r", r), ("p", p)] {
            file["crypto"]["kdfparams"][name] = value.into();
        }
        read_json(&file)
    };
    let is_costly = |read: Result<KeyFile, FileError>| matches!(read, Err(FileError::TooCostly(_)));
    // 256 MiB is geth's standard; the limit is 512, with the blocks for p.
    assert!(scrypt(1 << 18, 8, 1).is_ok() && scrypt(1 << 18, 15, 1).is_ok());
    assert!(is_costly(scrypt(1 << 19, 8, 1)));
    assert!(is_costly(scrypt(2, 1 << 21, 1)), "r takes memory too");
    assert!(is_costly(scrypt(2, 1, 1 << 23)), "p takes memory too");
    assert!(scrypt(1 << 18, 8, 8).is_ok());
    assert!(is_costly(scrypt(1 << 18, 8, 9)), "work");
    assert!(
        is_costly(scrypt(1 << 63, u64::MAX, u64::MAX)),
        "and no sum overflows"
    );
    for (n, r, p) in [(0, 8, 1), (1, 8, 1), (3, 8, 1), (8, 0, 1), (8, 8, 0)] {
        assert!(
            matches!(scrypt(n, r, p), Err(FileError::Field(..))),
            "{n} {r} {p}"
        );
    }
    let pbkdf2 = |c: u64| {
        let mut file = definition()[0].clone();
        file["crypto"]["kdfparams"]["c"] = c.into();
        read_json(&file)
    };
    assert!(pbkdf2(10_000_000).is_ok());
    assert!(is_costly(pbkdf2(10_000_001)) && is_costly(pbkdf2(u64::MAX)));
    assert!(matches!(pbkdf2(0), Err(FileError::Field(..))));
}

#[test]
fn what_is_no_key_file_is_told_by_the_field() {
    let with = |path: &str, value: Value| {
        let mut file = geth();
        *file.pointer_mut(path).unwrap() = value;
        read_json(&file).unwrap_err().to_string()
    };
    for (path, value, told) in [
        ("/version", json!("1"), "version is 1"),
        ("/version", json!(4), "version is not 3"),
        ("/address", json!("0x12"), "address: expected"),
        ("/crypto/cipher", json!("aes-256-ctr"), "cipher is not"),
        (
            "/crypto/cipherparams/iv",
            json!("00"),
            "cipherparams.iv: expected",
        ),
        (
            "/crypto/ciphertext",
            json!("00".repeat(33)),
            "ciphertext: expected",
        ),
        ("/crypto/ciphertext", json!(""), "ciphertext: expected"),
        ("/crypto/mac", json!("zz"), "mac: expected"),
        ("/crypto/kdf", json!("argon2"), "kdf: expected"),
        ("/crypto/kdfparams/dklen", json!(16), "dklen: expected"),
        (
            "/crypto/kdfparams/salt",
            json!("00".repeat(257)),
            "salt: expected",
        ),
        (
            "/crypto/kdfparams/n",
            json!(null),
            "kdfparams: expected n, r and p",
        ),
        ("/crypto/kdfparams/n", json!(-1), "no key file"),
        ("/crypto", json!([]), "no key file"),
    ] {
        let error = with(path, value);
        assert!(error.contains(told), "{path}: {error}");
    }
    for bad in [
        &b""[..],
        b"[]",
        b"{}",
        b"\xff",
        &vec![b' '; FILE_LIMIT_BYTES + 1],
    ] {
        assert!(matches!(KeyFile::from_json(bad), Err(FileError::Json(_))));
    }
}

#[test]
fn a_key_file_is_named_as_geth_names_it() {
    let at: jiff::Timestamp = "2016-03-22T12:57:55.920751759Z".parse().unwrap();
    let address = "7ef5a6135f1fd6a02593eedc869c6d41d934aef8";
    assert_eq!(
        file_name(address.parse().unwrap(), at),
        format!("UTC--2016-03-22T12-57-55.920751759Z--{address}")
    );
}

#[test]
fn a_key_that_is_added_is_listed_found_and_unlocked_and_its_file_is_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let keystore = Keystore::new(&dir.path().join("data/keystore"));
    assert_eq!(keystore.list().unwrap(), []);
    let added = keystore
        .add(&key(3), &password("p"), Strength::Light)
        .unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(keystore.path()), mode(&added.file)), (0o700, 0o600));
    assert_eq!(keystore.list().unwrap(), std::slice::from_ref(&added));
    assert_eq!(
        fs::read_dir(keystore.path()).unwrap().count(),
        1,
        "nothing else is left there"
    );
    let found = keystore.find(key(3).address()).unwrap();
    assert_eq!(found.unlock(&password("p")).unwrap().key(), key(3).key());
    let again = keystore.add(&key(3), &password("p"), Strength::Light);
    assert!(matches!(again, Err(KeyError::Exists(there)) if there == added));
    let missing = keystore.find(key(4).address()).unwrap_err().to_string();
    assert!(missing.contains(&key(3).address().to_string()), "{missing}");
}

/// The files of go-ethereum's `accounts/keystore/testdata/keystore`, by its README.
#[test]
fn what_geth_passes_over_is_passed_over_and_what_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let good = geth().to_string();
    let mut nameless = geth();
    nameless.as_object_mut().unwrap().remove("address");
    let aaa = write("aaa", &good, 0o600);
    write("no-address", &nameless.to_string(), 0o600);
    write("garbage", "\u{7}nonsense", 0o600);
    write("empty", "", 0o600);
    write("swapfile~", &good, 0o644);
    write(".hiddenfile", &good, 0o644);
    fs::create_dir(dir.path().join("foo")).unwrap();
    let keystore = Keystore::new(dir.path());
    let address = GETH_ADDRESS.parse().unwrap();
    assert_eq!(
        keystore.list().unwrap(),
        [Account {
            address,
            file: aaa.clone()
        }]
    );

    let zzz = write("zzz", &good, 0o600);
    let error = keystore.find(address).unwrap_err();
    assert!(
        matches!(&error, KeyError::Ambiguous { files, .. } if *files == [aaa, zzz.clone()]),
        "{error}"
    );
    fs::set_permissions(&zzz, fs::Permissions::from_mode(0o640)).unwrap();
    let listed = keystore.list().unwrap();
    assert!(listed[0].unlock(&password("foobar")).is_ok());
    let error = listed[1]
        .unlock(&password("foobar"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("mode 640") && error.contains("chmod 600"),
        "{error}"
    );
}
