//! The `config` of a genesis.json: geth's keys and Besu's.

use alloy_primitives::U256;

use super::json::{GenesisError, Node, Object};
use crate::chain::{
    clique::DEFAULT_EPOCH,
    spec::{BlobParams, CliqueConfig, Forks, Spec},
};

/// The chain id of a genesis without `config`: what the peers of such chains use for their network id.
const CHAIN_ID_WITHOUT_CONFIG: u64 = 1;

/// Clique's period in seconds where `config.clique` does not say, by the client whose keys it has.
const GETH_PERIOD_S: u64 = 0;
const BESU_PERIOD_S: u64 = 15;

/// Keys of `config` that change no rule judged here, though their names end as those of forks do.
const HARMLESS: [&str; 2] = ["eip150Hash", "terminalTotalDifficultyPassed"];

/// Seals other than clique's and ethash's: their headers are other ones.
const OTHER_ENGINES: [&str; 6] = ["ibft", "ibft2", "qbft", "aura", "bor", "parlia"];

/// Rollups whose blocks carry transactions of their own types.
const ROLLUPS: [&str; 3] = ["scroll", "optimism", "arbitrum"];

/// The rules where genesis.json has no `config`: Frontier's for ever.
pub(super) fn without(warnings: &mut Vec<String>) -> Spec {
    warnings.push(format!(
        "no config: taken for a chain of id {CHAIN_ID_WITHOUT_CONFIG} that keeps Frontier's rules for ever"
    ));
    Spec::new(U256::from(CHAIN_ID_WITHOUT_CONFIG), Forks::default())
}

/// Reads `config`.
pub(super) fn read(config: &Node<'_>, warnings: &mut Vec<String>) -> Result<Spec, GenesisError> {
    let object = config.object()?;
    let chain_id = object.need("chainId")?.wide()?;
    for key in OTHER_ENGINES {
        if let Some(node) = object.get(&[key])? {
            return node.fail(
                "clique, ethash or a terminal total difficulty: cairn knows no other way to seal",
            );
        }
    }
    let forks = forks(&object)?;
    let mut spec = Spec::new(chain_id, forks);
    spec.terminal_total_difficulty = match object.get(&["terminalTotalDifficulty"])? {
        Some(node) => Some(node.wide()?),
        None => None,
    };
    spec.clique = object
        .get(&["clique"])?
        .map(|node| clique(&node, warnings))
        .transpose()?;
    if let Some(ethash) = object.get(&["ethash"])? {
        if spec.clique.is_some() {
            return ethash.fail("nothing beside config.clique: a chain is sealed in one way");
        }
        if ethash.object()?.get(&["fixeddifficulty"])?.is_some() {
            warnings.push(
                "config.ethash.fixeddifficulty is not known: blocks need the usual difficulty"
                    .to_owned(),
            );
        }
    }
    spec.foreign_transactions = false;
    for key in ROLLUPS {
        if object.get(&[key])?.is_some() {
            spec.foreign_transactions = true;
            warnings.push(format!(
                "config.{key} is a rollup: what its own rules add is not checked, and neither are transactions of its own types"
            ));
        }
    }
    spec.blob_schedule = blob_schedule(&object, &spec.forks)?;
    check_order(&spec.forks)?;
    warn_unknown(&object, warnings);
    if let (Some(_), Some(time), None) = (
        spec.clique,
        spec.forks.shanghai_time.or(spec.forks.cancun_time),
        spec.terminal_total_difficulty,
    ) {
        warnings.push(format!(
            "clique ends where Shanghai comes, at {time}: no later block can be valid without a terminal total difficulty"
        ));
    }
    Ok(spec)
}

fn forks(object: &Object<'_>) -> Result<Forks, GenesisError> {
    let at = |key: &str| object.number(&[key]);
    Ok(Forks {
        homestead: at("homesteadBlock")?,
        dao: at("daoForkBlock")?,
        dao_support: match object.get(&["daoForkSupport"])? {
            Some(node) => node.truth()?,
            None => false,
        },
        eip150: at("eip150Block")?,
        eip155: at("eip155Block")?,
        eip158: at("eip158Block")?,
        byzantium: at("byzantiumBlock")?,
        constantinople: at("constantinopleBlock")?,
        petersburg: object.number(&["petersburgBlock", "constantinopleFixBlock"])?,
        istanbul: at("istanbulBlock")?,
        muir_glacier: at("muirGlacierBlock")?,
        berlin: at("berlinBlock")?,
        london: at("londonBlock")?,
        arrow_glacier: at("arrowGlacierBlock")?,
        gray_glacier: at("grayGlacierBlock")?,
        merge_netsplit: object.number(&[
            "mergeNetsplitBlock",
            "mergeNetSplitBlock",
            "mergeForkBlock",
        ])?,
        shanghai_time: at("shanghaiTime")?,
        cancun_time: at("cancunTime")?,
        prague_time: at("pragueTime")?,
        osaka_time: at("osakaTime")?,
        bpo_times: [
            at("bpo1Time")?,
            at("bpo2Time")?,
            at("bpo3Time")?,
            at("bpo4Time")?,
            at("bpo5Time")?,
        ],
        amsterdam_time: at("amsterdamTime")?,
    })
}

fn clique(node: &Node<'_>, warnings: &mut Vec<String>) -> Result<CliqueConfig, GenesisError> {
    let object = node.object()?;
    let period_s = match object.number(&["period", "blockperiodseconds"])? {
        Some(period_s) => period_s,
        // Clients differ in what they take where the file is silent.
        None => {
            let besu = ["epochlength", "createemptyblocks"];
            let period_s = match object.entries().any(|(key, _)| besu.contains(&key)) {
                true => BESU_PERIOD_S,
                false => GETH_PERIOD_S,
            };
            warnings.push(format!(
                "{} says no period: taken for {period_s}",
                node.path
            ));
            period_s
        }
    };
    // To geth an epoch of 0 is none given.
    let epoch = match object.number(&["epoch", "epochlength"])? {
        None | Some(0) => DEFAULT_EPOCH,
        Some(epoch) => epoch,
    };
    Ok(CliqueConfig { period_s, epoch })
}

/// The parameters of each fork that has some of its own: as `blobSchedule` says, else mainnet's.
fn blob_schedule(
    object: &Object<'_>,
    forks: &Forks,
) -> Result<Vec<(u64, BlobParams)>, GenesisError> {
    let bpo = forks.bpo_times;
    let known = [
        ("cancun", forks.cancun_time, Some(BlobParams::CANCUN)),
        ("prague", forks.prague_time, Some(BlobParams::PRAGUE)),
        // Osaka itself changes none: what was in force stays in force.
        ("osaka", forks.osaka_time, None),
        ("bpo1", bpo[0], Some(BlobParams::BPO1)),
        ("bpo2", bpo[1], Some(BlobParams::BPO2)),
        ("bpo3", bpo[2], None),
        ("bpo4", bpo[3], None),
        ("bpo5", bpo[4], None),
        // As Osaka.
        ("amsterdam", forks.amsterdam_time, None),
    ];
    let given = match object.get(&["blobSchedule"])? {
        Some(node) => Some(node.object()?),
        None => None,
    };
    let mut schedule = Vec::new();
    for (key, time, default) in known {
        let node = match &given {
            Some(given) => given.get(&[key])?,
            None => None,
        };
        // Parameters are read also where their fork never comes: a mistake in them is a mistake.
        let params = match node {
            Some(node) => Some(blob_params(&node)?),
            None => default,
        };
        match (time, params) {
            (Some(time), Some(params)) => schedule.push((time, params)),
            (Some(_), None) if key.starts_with("bpo") => {
                return Err(GenesisError::new(
                    format!("config.blobSchedule.{key}"),
                    format_args!("its target, max and baseFeeUpdateFraction, for {key}Time is set"),
                    "nothing",
                ));
            }
            _ => {}
        }
    }
    Ok(schedule)
}

fn blob_params(node: &Node<'_>) -> Result<BlobParams, GenesisError> {
    let object = node.object()?;
    let fraction = object.need("baseFeeUpdateFraction")?;
    let update_fraction = match fraction.number()? {
        0 => return fraction.fail("a number above 0"),
        fraction => fraction,
    };
    let target = object.need("target")?.number()?;
    let most = object.need("max")?;
    let max = most.number()?;
    // Far above anything real: keeps gas of blobs within 64 bits.
    const MOST_BLOBS: u64 = 1 << 32;
    if max < target || max > MOST_BLOBS {
        return most.fail(format_args!(
            "at least the target, {target}, and at most {MOST_BLOBS}"
        ));
    }
    Ok(BlobParams {
        target,
        max,
        update_fraction,
    })
}

/// Forks that are set must come in their order.
fn check_order(forks: &Forks) -> Result<(), GenesisError> {
    fn rising(forks: &[(&'static str, Option<u64>)]) -> Result<(), GenesisError> {
        let mut last: Option<(&str, u64)> = None;
        for &(key, place) in forks {
            let Some(place) = place else { continue };
            if let Some((before, least)) = last.filter(|(_, least)| place < *least) {
                return Err(GenesisError::new(
                    format!("config.{key}"),
                    format_args!("at least {least}, where {before} is"),
                    place,
                ));
            }
            last = Some((key, place));
        }
        Ok(())
    }
    // The DAO fork and the netsplit block have places of their own: they change no later rule.
    let free = ["daoForkBlock", "mergeNetsplitBlock"];
    let by_block: Vec<_> = forks
        .by_block()
        .into_iter()
        .filter(|(key, _)| !free.contains(key))
        .collect();
    rising(&by_block)?;
    rising(&forks.by_time())
}

fn warn_unknown(object: &Object<'_>, warnings: &mut Vec<String>) {
    const KNOWN: [&str; 3] = [
        "constantinopleFixBlock",
        "mergeNetSplitBlock",
        "mergeForkBlock",
    ];
    let forks = Forks::default();
    let (by_block, by_time) = (forks.by_block(), forks.by_time());
    for (key, node) in object.entries() {
        let looks_like_a_fork = key.ends_with("Block") || key.ends_with("Time");
        let known = by_block
            .iter()
            .chain(&by_time)
            .any(|(known, _)| *known == key)
            || KNOWN.contains(&key)
            || HARMLESS.contains(&key);
        if looks_like_a_fork && !known {
            warnings.push(format!(
                "{} looks like a fork that cairn does not know: it is ignored, and so is what it changes",
                node.path
            ));
        }
    }
}
