//! What a session sees to before its first change, and every change before its MANIFEST: that the store is ours to write,
//! and which of its files belong to no commit.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::file::{Disk, names};
use crate::format::{Kind, SEGMENT_KINDS};
use crate::manifest::{self, COPIES, Found, Manifest, VERSION};

/// Sees that nobody else has written a MANIFEST since ours.
pub(crate) fn check_ours(dir: &Path, ours: u64) -> Result<(), Error> {
    let found = manifest::find(dir)?.manifest.sequence;
    if found == ours {
        Ok(())
    } else {
        Err(Error::Changed {
            dir: dir.to_path_buf(),
            ours,
            found,
        })
    }
}

/// Refuses a store that a newer program must write.
pub(crate) fn refuse_newer(dir: &Path, found: &Found) -> Result<(), Error> {
    let asked = found.manifest.write_version;
    if asked <= VERSION {
        return Ok(());
    }
    Err(Error::Newer {
        path: dir.join(COPIES[found.copy]),
        found: asked,
        supported: VERSION,
        readable: true,
    })
}

/// Files of the store's kinds that no MANIFEST names: those of changes that were never committed, and those that are newer
/// than the MANIFEST.
pub(crate) fn unnamed(
    dir: &Path,
    manifest: &Manifest,
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let (mut leftovers, mut ahead) = (Vec::new(), Vec::new());
    let folders = SEGMENT_KINDS
        .into_iter()
        .chain([Kind::Run])
        .map(Kind::name)
        .chain([""]);
    for folder in folders {
        for name in names(&dir.join(folder))? {
            let path = dir.join(folder).join(&name);
            let stem = name.strip_suffix(".new");
            let Some((_, of)) = manifest::parse_name(stem.unwrap_or(&name)) else {
                continue;
            };
            if stem.is_none() && manifest::is_named(manifest, folder, &name) {
                continue;
            }
            if stem.is_none() && u64::from(of) > manifest.sequence + 1 {
                ahead.push(path);
            } else {
                leftovers.push(path);
            }
        }
    }
    Ok((leftovers, ahead))
}

/// What a session does before its first change: writes the MANIFEST it found to both copies again, for what was found may
/// be only in the cache, and removes the files of changes that were never committed.
pub(crate) fn begin(disk: &Disk, dir: &Path, found: &Found) -> Result<(), Error> {
    let sequence = found.manifest.sequence;
    let (leftovers, ahead) = unnamed(dir, &found.manifest)?;
    if let Some(path) = ahead.into_iter().next() {
        return Err(Error::Ahead { path, sequence });
    }
    check_ours(dir, sequence)?;
    manifest::write(disk, dir, &found.bytes, found.copy)?;
    for path in leftovers {
        log::info!(
            "{}: removed, it belongs to a change that was never committed",
            path.display()
        );
        disk.remove(&path)?;
    }
    Ok(())
}
