//! Why a command ends with another status than 0.

use std::{fmt, io, path::Path};

use cairn_store::Error;

/// Why a command could not give the answer that was hoped for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The question cannot be asked: status 2.
    Usage(String),
    /// The answer is no: status 1.
    No(String),
    /// What the store says: status 1, or 2 if there is none that we can read.
    Store(Error),
    /// Whoever read our output went away, which is no fault: status 0, silently.
    ReaderGone,
}

impl Failure {
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Usage(_) => 2,
            Self::Store(Error::NoStore { .. } | Error::Newer { .. }) => 2,
            Self::Store(Error::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                2
            }
            Self::No(_) | Self::Store(_) => 1,
        }
    }

    /// What went wrong while `doing` something with a file that was named on the command line.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::of_file(error, format!("{doing} {}: {error}", path.display()))
    }

    /// What a file that was named on the command line says: wrong usage if it cannot be there, else a failure of the disk's.
    pub(crate) fn of_file(error: &io::Error, message: String) -> Self {
        use io::ErrorKind::{
            AlreadyExists, InvalidFilename, IsADirectory, NotADirectory, NotFound,
            PermissionDenied, ReadOnlyFilesystem,
        };
        match error.kind() {
            NotFound | PermissionDenied | AlreadyExists | IsADirectory | NotADirectory
            | InvalidFilename | ReadOnlyFilesystem => Self::Usage(message),
            _ => Self::No(message),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::No(message) => f.write_str(message),
            Self::Store(error) => error.fmt(f),
            Self::ReaderGone => f.write_str("whoever read the output went away"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}
