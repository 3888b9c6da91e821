//! The socket's place in the file system: made so that nobody can ever open it who may not, at a path of any length.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net;

/// Where a socket is bound. Its name goes when this is dropped, unless it is another socket's by then.
pub(crate) struct Place {
    path: PathBuf,
    /// Device and inode.
    what: (u64, u64),
}

impl Place {
    /// Binds a socket of that mode at `path`, in the place of an older one.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, Place)> {
        let (folder, name) = split(path)?;
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(io::Error::other("what is there is no socket"));
            }
            if connect(path).is_ok() {
                return Err(io::Error::other("another program listens there"));
            }
        }
        // In a folder that only we can enter it gets its mode before it gets its name.
        let making = folder.join(format!(".{name}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&making);
        fs::DirBuilder::new().mode(0o700).create(&making)?;
        let bound = (|| {
            let listener = short(&making, "s", |path| UnixListener::bind(path))?;
            let made = making.join("s");
            fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
            let found = fs::symlink_metadata(&made)?;
            fs::rename(&made, path)?;
            let place = Place {
                path: path.to_owned(),
                what: (found.dev(), found.ino()),
            };
            Ok((listener, place))
        })();
        let _ = fs::remove_dir_all(&making);
        bound
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.what) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to the socket at `path`, or fails at once.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = split(path)?;
    short(folder, name, |path| {
        let socket = net::socket_with(
            net::AddressFamily::UNIX,
            net::SocketType::STREAM,
            net::SocketFlags::NONBLOCK | net::SocketFlags::CLOEXEC,
            None,
        )?;
        // A program that is stuck accepts nobody: one that calls must not wait for it without end.
        net::connect(&socket, &net::SocketAddrUnix::new(path)?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(io::ErrorKind::InvalidInput)?;
    match path.parent() {
        Some(folder) if folder != Path::new("") => Ok((folder, name)),
        _ => Ok((Path::new("."), name)),
    }
}

/// Calls `with` with a path to `name` in `folder` that a socket's address has room for (107 bytes), however long the folder's own is.
fn short<T>(folder: &Path, name: &str, with: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    const ROOM_BYTES: usize = 107;
    let whole = folder.join(name);
    if whole.as_os_str().len() <= ROOM_BYTES {
        return with(&whole);
    }
    let open = File::open(folder)?;
    with(Path::new(&format!(
        "/proc/self/fd/{}/{name}",
        open.as_raw_fd()
    )))
}
