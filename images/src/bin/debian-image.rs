//! `debian-image FOLDER ARCHIVE`: makes an image of Debian's packages, as the recipe in a folder says.
//!
//! In: a folder with `image.toml` and `files/`. Out: an OCI archive, which `limpet image load` reads, and a
//! line that says what is in it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use limpet_images::debian;
use limpet_oci::Platform;

const HELP: &str = "Makes an image of Debian's packages without running anything of them.

Usage: debian-image [OPTIONS] FOLDER ARCHIVE

FOLDER has image.toml, which says what is in the image, and files/, which is added to it.
ARCHIVE is the OCI archive to write: `limpet image load ARCHIVE`.

Options:
  --platform PLATFORM   linux/amd64, linux/arm64, linux/arm/v7, ... [default: this machine's]
  --cache FOLDER        where lists and packages are kept [default: target/debian]";
const DEFAULT_CACHE: &str = "target/debian";
const WRONG_USAGE: u8 = 2;

struct Arguments {
    folder: PathBuf,
    archive: PathBuf,
    platform: Platform,
    cache: PathBuf,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return say(HELP);
    }
    let Some(arguments) = arguments(&words) else {
        eprintln!("{HELP}");
        return ExitCode::from(WRONG_USAGE);
    };
    match run(&arguments) {
        Ok(line) => say(&line),
        Err(error) => {
            eprint!("debian-image: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn arguments(words: &[String]) -> Option<Arguments> {
    let (mut platform, mut cache) = (Platform::host(), PathBuf::from(DEFAULT_CACHE));
    let mut paths = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--platform" => platform = words.next()?.parse().ok()?,
            "--cache" => cache = words.next()?.into(),
            option if option.starts_with('-') => return None,
            path => paths.push(PathBuf::from(path)),
        }
    }
    let [folder, archive] = <[PathBuf; 2]>::try_from(paths).ok()?;
    Some(Arguments { folder, archive, platform, cache })
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn std::error::Error>> {
    let made = debian::make(&arguments.folder, &arguments.platform, &arguments.cache)?;
    let path = &arguments.archive;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("make {}: {error}", parent.display()))?;
    }
    std::fs::write(path, &made.archive)
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    Ok(format!(
        "{}: {} packages, {} unpacked, {} as an archive",
        made.name,
        made.packages.len(),
        mebibytes(made.unpacked),
        mebibytes(made.archive.len())
    ))
}

fn mebibytes(bytes: usize) -> String {
    const TENTH: usize = (1 << 20) / 10;
    let tenths = bytes / TENTH;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn say(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
