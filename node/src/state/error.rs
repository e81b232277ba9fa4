//! Why the state directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use ringfence_model::Name;

use super::FORMAT;

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is no identity in it.
    #[error("{} holds no identity: enrol this machine first with `ringfence-node enroll`", .0.display())]
    NotEnrolled(PathBuf),
    /// It has one already.
    #[error("{} already holds the identity of {name} in mesh {mesh}: remove the directory to enrol anew", .path.display())]
    AlreadyEnrolled {
        /// The directory.
        path: PathBuf,
        /// The node's name.
        name: Name,
        /// The mesh.
        mesh: Name,
    },
    /// Someone else may read or write it.
    #[error("{} has mode {mode:04o}, so other users could reach its secrets: run `chmod {wanted:o}` on it", .path.display())]
    Rights {
        /// What.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Someone else owns it.
    #[error("{} belongs to user {owner}, and this process runs as user {user}", .path.display())]
    Owner {
        /// What.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// It is a file.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another instance runs on it.
    #[error("{} is in use by another ringfence-node", .0.display())]
    InUse(PathBuf),
    /// A newer program wrote it.
    #[error("{} has format {found}, this program reads {FORMAT}: use the ringfence-node that wrote it, or a newer one", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: u32,
    },
    /// It is damaged.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system says no.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// Names the path that the operating system said no to.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::Io {
        path: path.clone(),
        source,
    }
}
