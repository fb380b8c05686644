//! Where `init` makes a CA before it is moved into place, and what is left of one that was cut short.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{CommandError, request};
use crate::{
    folder::{self, Folder},
    step::{Step, reached},
};

/// What drafts are called: a name that nobody else gives.
const DRAFT: &str = ".init";

/// Whether all that is in a folder is what an attempt left there that was cut short, and these.
pub fn is_only(path: &Path, others: &[&Path]) -> bool {
    let is_one = |entry: fs::DirEntry| entry.file_name() == DRAFT || others.contains(&entry.path().as_path());
    fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_one)))
}

/// Whether an attempt left something in a folder, and moved the settings not yet: nothing of it is in use.
pub fn was_cut_short(path: &Path) -> bool {
    path.join(DRAFT).exists() && !Folder::new(path).config().exists()
}

/// Why a folder can't be taken in which there is something.
pub fn why_not(path: &PathBuf, dir: &Path, root_dir: &Path) -> String {
    let is_made = Folder::new(dir).config().exists();
    if path == dir && !is_made && request::waiting(dir).is_ok_and(|waiting| waiting.is_some()) {
        let next = "go on with `init --issuer-cert FILE --root-cert FILE --root-crl FILE`, or remove the folder";
        return format!("a request for the certificate of its issuing CA waits here: {next}");
    }
    let left = left_behind(dir, root_dir);
    if !left.contains(path) {
        return "there is something already; `init` changes nothing that exists: choose another folder".into();
    }
    let left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
    format!("an `init` was cut short here, and made no CA: remove {}, and run it again", left.join(" and "))
}

/// What an attempt left that was cut short while it moved things into place: nothing of it is in use, since the settings
/// come last.
fn left_behind(dir: &Path, root_dir: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    if Folder::new(dir).config().exists() {
        return left;
    }
    let control_root = |folder: &Path| fs::read(Folder::new(folder).control_root()).ok();
    let drafts = [beside(dir), Some(dir.join(DRAFT))];
    let made: Vec<_> = drafts.iter().flatten().map(PathBuf::as_path).chain([dir]).filter_map(control_root).collect();
    left.extend(beside(dir).filter(|draft| draft.exists()));
    left.extend(dir.join(DRAFT).exists().then(|| dir.to_owned()));
    // Root keys of another CA are none of this attempt's.
    let is_ours = root_dir.join(DRAFT).exists() || control_root(root_dir).is_some_and(|root| made.contains(&root));
    if !left.is_empty() && is_ours {
        left.push(root_dir.to_owned());
    }
    left
}

/// A draft beside a folder.
pub fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(DRAFT);
    Some(path.with_file_name(name))
}

/// Where a folder is made before it is moved into place: inside it where it is there already (it may be all that this
/// user can write, or a medium of its own), beside it where it isn't.
pub fn draft_of(path: &Path) -> Result<PathBuf, CommandError> {
    if path.is_dir() {
        return Ok(path.join(DRAFT));
    }
    beside(path).ok_or_else(|| CommandError::Usage("--dir needs a name".into()))
}

/// A fresh draft; what an attempt left there that was cut short is removed.
pub fn begin(draft: &Path) -> Result<(), CommandError> {
    discard(draft)?;
    folder::create_private(draft).map_err(CommandError::file(draft))
}

/// Removes a draft, if there is one.
pub fn discard(draft: &Path) -> Result<(), CommandError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CommandError::file(draft)(error)),
        _ => Ok(()),
    }
}

/// Takes the place of what is vacant. In a folder that is there already the settings come last: without them nothing
/// serves, and a second `init` refuses.
pub fn move_into_place(draft: &Path, path: &Path) -> Result<(), CommandError> {
    let moved = if draft.parent() == Some(path) { move_content(draft, path) } else { fs::rename(draft, path) };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    reached(Step::PartMoved);
    moved.and_then(|()| folder::sync(path)).and_then(|()| folder::sync(parent)).map_err(CommandError::file(path))
}

fn move_content(draft: &Path, path: &Path) -> io::Result<()> {
    let settings = Folder::new(draft).config();
    let entries = fs::read_dir(draft)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let (last, first): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| *entry == settings);
    for entry in first.into_iter().chain(last) {
        fs::rename(&entry, path.join(entry.file_name().unwrap_or_default()))?;
        reached(Step::PartMoved);
    }
    fs::remove_dir(draft)
}
