//! Ledger: what the node shall run, on disk, so that it runs without network, registry or clock.
//!
//! In: the data folder. Out: who this node is ([`identity`]), which start of the kernel this is
//! ([`boot`]), and the newest assignment with its specs ([`Ledger::load`], [`Ledger::store`]).
//!
//! The newest two assignments are kept as they were received, each in a file named by its
//! generation, and beside them the specs that they name, each in a file named by its hash, and the
//! configs and secrets that those name ([`content`]). Every file proves itself: an assignment and a
//! sealed secret by the controller's signature, a spec and a config by its hash. What does not is
//! passed over and told, never deleted; the older assignment runs then. A secret is on disk only
//! sealed to the node's own key ([`key_file`]).
//!
//! A new assignment is written in an order that a power cut cannot hurt: its specs and contents, the
//! folder, the assignment, the folder again, and only then what no kept assignment needs any more is deleted.
//! Nothing else is ever written while the assignment stays the same, but one record a run of a
//! schedule ([`runs`]).

pub mod boot;
pub mod content;
pub(crate) mod durable;
pub mod identity;
pub mod intake;
mod key_file;
pub mod runs;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use limpet_protocol::assignment::{AssignedService, Assignment, Generation};
use limpet_protocol::id::{NodeId, SpecHash};
use limpet_protocol::limits::MAX_PAYLOAD_BYTES;
use limpet_protocol::message::SealKey;
use limpet_protocol::spec::Spec;
use limpet_seal::NodeKey;
use sha2::Digest as _;

use content::{ContentRef, Contents};
use key_file::KeyFile;
pub use verify::{Refusal, check_config, check_secret, check_spec, open_assignment, spec_hash};

/// The ledger's folder in the data folder.
const FOLDER: &str = "ledger";
/// Assignments kept: the one that runs and the one before it, to fall back on.
const ASSIGNMENTS_KEPT: usize = 2;
/// Files looked at in the ledger's folder. Two assignments name far fewer.
const MAX_FILES: usize = 4096;

/// An assignment that passed every check, with the specs that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// As it was received: the encoded `Signed`.
    pub signed: Vec<u8>,
    /// What it says.
    pub assignment: Assignment,
    /// Encoded specs and specs by their hash, all that the assignment names.
    pub specs: BTreeMap<SpecHash, KeptSpec>,
    /// Encoded configs and sealed secrets, all that the specs name.
    pub contents: Contents,
}

/// A spec and the bytes that its hash is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSpec {
    /// As it was received.
    pub bytes: Arc<[u8]>,
    /// What it says.
    pub spec: Arc<Spec>,
}

/// What [`Ledger::load`] found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest assignment that is whole.
    pub accepted: Option<Accepted>,
    /// Files that do not prove themselves, and what that means, for people.
    pub problems: Vec<String>,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} {}", path.display())]
pub struct LedgerError {
    /// What was being tried.
    pub attempt: &'static str,
    /// With which file or folder.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// The folder of one node's assignments.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: PathBuf,
    node: NodeId,
    controller_key: Vec<u8>,
    seal_key: Arc<NodeKey>,
    mesh_key: Arc<NodeKey>,
    /// What was wrong with the files of those keys.
    key_problems: Vec<String>,
}

/// One step of storing an assignment, so that tests can cut the power between any two.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Write { name: String, bytes: Vec<u8> },
    SyncFolder,
    Delete { name: String },
}

impl Ledger {
    /// The ledger in `data`, made if it is not there.
    ///
    /// # Errors
    /// [`LedgerError`] if the folder or the node's key cannot be made.
    pub fn open(data: &Path, node: NodeId, controller_key: Vec<u8>) -> Result<Self, LedgerError> {
        let folder = data.join(FOLDER);
        durable::make_folder(&folder).map_err(|source| LedgerError {
            attempt: "make folder",
            path: folder.clone(),
            source,
        })?;
        let seal = key_file::open(data, KeyFile::Seal)?;
        let mesh = key_file::open(data, KeyFile::Mesh)?;
        Ok(Self {
            folder,
            node,
            controller_key,
            seal_key: Arc::new(seal.key),
            mesh_key: Arc::new(mesh.key),
            key_problems: seal.problem.into_iter().chain(mesh.problem).collect(),
        })
    }

    /// Whose ledger it is.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        &self.node
    }

    /// The node's word for the key that its secrets are to be sealed to. `secret` is what the
    /// controller gave the node when it joined.
    #[must_use]
    pub fn seal_key(&self, secret: &str) -> SealKey {
        let digest = sha2::Sha256::digest(secret.as_bytes()).into();
        limpet_seal::prove(&digest, &self.node, self.seal_key.public())
    }

    /// The key that other nodes know this one by.
    #[must_use]
    pub fn mesh_key(&self) -> &NodeKey {
        &self.mesh_key
    }

    /// Checks a config or a sealed secret as it came from the wire or from disk.
    ///
    /// # Errors
    /// [`Refusal`] says why it is not believed.
    pub fn check_content(&self, content: ContentRef, bytes: &[u8]) -> Result<(), Refusal> {
        match content {
            ContentRef::Config(id) => check_config(&id, bytes),
            ContentRef::Secret(id) => {
                check_secret(&id, bytes, &self.controller_key, &self.node).map(drop)
            }
        }
    }

    /// Whether a content that was checked can be used with the key that the node has now.
    #[must_use]
    pub fn opens(&self, content: ContentRef, bytes: &[u8]) -> bool {
        matches!(content, ContentRef::Config(_))
            || content::sealed(bytes).is_some_and(|sealed| sealed.key == self.seal_key.public())
    }

    /// Checks an assignment as it came from the wire or from disk.
    ///
    /// # Errors
    /// [`Refusal`] says why it is not believed.
    pub fn open_assignment(&self, signed: &[u8]) -> Result<Assignment, Refusal> {
        open_assignment(signed, &self.controller_key, &self.node)
    }

    /// The newest assignment whose signature, specs and hashes are all good.
    ///
    /// # Errors
    /// [`LedgerError`] only if the folder itself cannot be read.
    pub fn load(&self) -> Result<Loaded, LedgerError> {
        let mut loaded = Loaded::default();
        loaded.problems.extend(self.key_problems.iter().cloned());
        for (generation, name) in self.assignment_files()?.into_iter().rev() {
            match self.read_whole(&name, generation) {
                Ok(accepted) => {
                    loaded.accepted = Some(accepted);
                    break;
                }
                Err(problem) => loaded.problems.push(problem),
            }
        }
        Ok(loaded)
    }

    /// Writes a new assignment and its specs, and then deletes what no kept assignment needs.
    ///
    /// # Errors
    /// [`LedgerError`]; what was there before is still there then.
    pub fn store(&self, accepted: &Accepted) -> Result<(), LedgerError> {
        for step in self.writing(accepted)? {
            self.run(&step)?;
        }
        for step in self.pruning()? {
            self.run(&step)?;
        }
        Ok(())
    }

    fn writing(&self, accepted: &Accepted) -> Result<Vec<Step>, LedgerError> {
        let mut steps = Vec::new();
        for (hash, kept) in &accepted.specs {
            let name = spec_file(hash);
            let there = self.read(&name).is_ok_and(|bytes| spec_hash(&bytes) == *hash);
            if !there {
                steps.push(Step::Write { name, bytes: kept.bytes.to_vec() });
            }
        }
        for (content, bytes) in &accepted.contents {
            let name = content.file();
            if !self.read(&name).is_ok_and(|there| there == **bytes) {
                steps.push(Step::Write { name, bytes: bytes.to_vec() });
            }
        }
        if !steps.is_empty() {
            steps.push(Step::SyncFolder);
        }
        let name = assignment_file(accepted.assignment.generation);
        steps.push(Step::Write { name, bytes: accepted.signed.clone() });
        steps.push(Step::SyncFolder);
        Ok(steps)
    }

    /// What may go: all but the newest good assignments, the specs they name, and files that are
    /// newer than the newest good one (they may be somebody's evidence, and are few).
    fn pruning(&self) -> Result<Vec<Step>, LedgerError> {
        let mut kept = BTreeSet::new();
        let mut good = 0;
        let mut old = Vec::new();
        for (generation, name) in self.assignment_files()?.into_iter().rev() {
            if good == ASSIGNMENTS_KEPT {
                old.push(name);
                continue;
            }
            if let Ok(accepted) = self.read_whole(&name, generation) {
                good += 1;
                kept.extend(accepted.specs.keys().map(spec_file));
                kept.extend(accepted.contents.keys().map(|content| content.file()));
            } else if good > 0 {
                old.push(name);
            }
        }
        if good == 0 {
            return Ok(Vec::new());
        }
        let stale = |name: &String| {
            let is_named = name.starts_with("spec-") || ContentRef::is_file(name);
            durable::is_temporary(name) || (is_named && !kept.contains(name))
        };
        old.extend(self.file_names()?.into_iter().filter(stale));
        Ok(old.into_iter().map(|name| Step::Delete { name }).collect())
    }

    fn run(&self, step: &Step) -> Result<(), LedgerError> {
        let (attempt, path, result) = match step {
            Step::Write { name, bytes } => {
                let path = self.folder.join(name);
                let result = durable::write(&path, bytes);
                ("write", path, result)
            }
            Step::SyncFolder => {
                ("sync folder", self.folder.clone(), durable::sync_folder(&self.folder))
            }
            Step::Delete { name } => {
                let path = self.folder.join(name);
                let result = std::fs::remove_file(&path);
                ("delete", path, result)
            }
        };
        result.map_err(|source| LedgerError { attempt, path, source })
    }

    fn read_whole(&self, name: &str, generation: Generation) -> Result<Accepted, String> {
        let pass_over = |why: &dyn std::fmt::Display| {
            format!(
                "ledger file {name} is passed over: {why}; an older assignment runs if one is whole"
            )
        };
        let signed = self.read(name).map_err(|error| pass_over(&error))?;
        let assignment = self.open_assignment(&signed).map_err(|refusal| pass_over(&refusal))?;
        if assignment.generation != generation {
            return Err(pass_over(&"its name is not that of its content"));
        }
        let mut specs = BTreeMap::new();
        for hash in assignment.services.iter().flat_map(named) {
            let file = spec_file(&hash);
            let bytes = self
                .read(&file)
                .map_err(|error| pass_over(&format_args!("{file} cannot be read: {error}")))?;
            let spec = check_spec(&hash, &bytes)
                .map_err(|refusal| pass_over(&format_args!("{file}: {refusal}")))?;
            specs.insert(hash, KeptSpec { bytes: bytes.into(), spec: Arc::new(spec) });
        }
        let mut contents = Contents::new();
        for content in specs.values().flat_map(|kept| ContentRef::all_of(&kept.spec)) {
            let file = content.file();
            let bytes = self
                .read(&file)
                .map_err(|error| pass_over(&format_args!("{file} cannot be read: {error}")))?;
            self.check_content(content, &bytes)
                .map_err(|refusal| pass_over(&format_args!("{file}: {refusal}")))?;
            contents.insert(content, bytes.into());
        }
        Ok(Accepted { signed, assignment, specs, contents })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        durable::read_bounded(&self.folder.join(name), MAX_PAYLOAD_BYTES as u64)
    }

    fn assignment_files(&self) -> Result<BTreeMap<Generation, String>, LedgerError> {
        let names = self.file_names()?;
        Ok(names.into_iter().filter_map(|name| Some((generation_of(&name)?, name))).collect())
    }

    fn file_names(&self) -> Result<Vec<String>, LedgerError> {
        let failed =
            |source| LedgerError { attempt: "read folder", path: self.folder.clone(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)?.take(MAX_FILES) {
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// The specs that a service's share names: what runs, and what comes next.
fn named(service: &AssignedService) -> impl Iterator<Item = SpecHash> {
    [Some(service.spec), service.next].into_iter().flatten()
}

fn assignment_file(generation: Generation) -> String {
    format!("want-{}-{}", generation.epoch, generation.number)
}

fn generation_of(name: &str) -> Option<Generation> {
    let (epoch, number) = name.strip_prefix("want-")?.split_once('-')?;
    Some(Generation { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
}

fn spec_file(hash: &SpecHash) -> String {
    format!("spec-{hash}")
}

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod tests;
