//! `limpet flash build|personalize|write`: from an agent to a card that a board boots from.

mod disk;
mod write;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use limpet_images::board::settings::{self, SettingError, quoted, set};
use limpet_images::board::{self, Board};

use crate::output;
use crate::progress;

/// Where packages are kept between images.
const CACHE: &str = "target/debian/boards";

/// Arguments of `limpet flash`.
#[derive(Debug, Args)]
pub struct FlashArgs {
    #[command(subcommand)]
    verb: FlashVerb,
}

#[derive(Debug, Subcommand)]
enum FlashVerb {
    /// Make the image of a board, one for a whole fleet
    #[command(after_help = "\
Boards: raspi-arm64 (Raspberry Pi 3, 4, Zero 2), raspi-zero (1, Zero), virt-arm64 and virt-amd64 (QEMU and the like).
The agent is built by images/cross/build; kernel, firmware and busybox are Debian's packages, which apt fetches.
Needs apt, dpkg and mke2fs, but no root.

Examples:
  limpet flash build --board raspi-arm64 -o limpet.img
  limpet flash build --board virt-arm64 --agent limpet-agent -o virt.img")]
    Build(BuildArgs),
    /// Write settings into limpet.toml of an image, as one could by hand on its boot partition
    #[command(after_help = "\
Examples:
  limpet flash personalize limpet.img --controller mqtt://10.0.0.5:1883 --token TOKEN --label site=north
  limpet flash personalize limpet.img --wifi-ssid pumps --wifi-password 'under pressure' --wifi-country DE
  limpet flash personalize limpet.img --set board.console=true --set network.address=10.0.0.7/24")]
    Personalize(PersonalizeArgs),
    /// Write an image to a card, and read it back
    #[command(after_help = "\
A disk that anything of this machine uses is refused. What is on the card is lost.

Example:
  sudo limpet flash write limpet.img /dev/sdX")]
    Write(write::WriteArgs),
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// The kind of board
    #[arg(long, value_name = "BOARD")]
    board: Board,
    /// The image to write
    #[arg(short, long, default_value = "limpet.img", value_name = "FILE")]
    output: PathBuf,
    /// The agent's program for the board [default: what images/cross/build makes]
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Where packages are kept between images
    #[arg(long, default_value = CACHE, value_name = "FOLDER")]
    cache: PathBuf,
}

#[derive(Debug, Args)]
struct PersonalizeArgs {
    /// The image, or a card's device
    image: PathBuf,
    /// The controller's broker: mqtt://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// Token that lets boards join; make one with `limpet token create`
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Label for placement constraints; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// The host name, for an image of one board
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// The name of the Wi-Fi network
    #[arg(long, value_name = "NAME")]
    wifi_ssid: Option<String>,
    /// The password of the Wi-Fi network
    #[arg(long, value_name = "PASSWORD", requires = "wifi_ssid")]
    wifi_password: Option<String>,
    /// The country where the radio is, in two letters: what is allowed on the air differs
    #[arg(long, value_name = "COUNTRY", requires = "wifi_ssid")]
    wifi_country: Option<String>,
    /// Any other setting of limpet.toml, its value in TOML or a text; may be given several times
    #[arg(long = "set", value_name = "TABLE.NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Makes, changes or writes an image.
///
/// # Errors
/// What stands in the way.
pub fn run(args: &FlashArgs) -> anyhow::Result<()> {
    match &args.verb {
        FlashVerb::Build(args) => build(args),
        FlashVerb::Personalize(args) => personalize(args),
        FlashVerb::Write(args) => write::run(args),
    }
}

fn build(args: &BuildArgs) -> anyhow::Result<()> {
    let target = args.board.target();
    let agent = args.agent.clone();
    let agent =
        agent.unwrap_or_else(|| Path::new("target/cross").join(target).join("limpet-agent"));
    let program = std::fs::read(&agent).with_context(|| {
        format!(
            "read the agent {}; `images/cross/build {target}` builds it, or name one with --agent",
            agent.display()
        )
    })?;
    let spinner = progress::spinner(format!("make {}", args.output.display()));
    let built = board::build(args.board, &program, &args.cache, &args.output);
    spinner.finish_and_clear();
    let built = built?;
    let kernel = output::bytes(u64::try_from(built.kernel_bytes).unwrap_or(u64::MAX));
    let initramfs = output::bytes(u64::try_from(built.initramfs_bytes).unwrap_or(u64::MAX));
    output::print(&format!(
        "{}: {}, {} packages, kernel {kernel}, system {initramfs}\n",
        args.output.display(),
        args.board,
        built.packages.len()
    ))?;
    Ok(())
}

fn personalize(args: &PersonalizeArgs) -> anyhow::Result<()> {
    board::personalize(&args.image, |text| changed(text, args))?;
    Ok(())
}

/// The settings as they are to be.
fn changed(text: &str, args: &PersonalizeArgs) -> Result<String, SettingError> {
    let mut text = text.to_owned();
    for (table, name, value) in [
        ("agent", "controller", &args.controller),
        ("agent", "join-token", &args.token),
        ("board", "host-name", &args.host_name),
        ("network", "wifi-ssid", &args.wifi_ssid),
        ("network", "wifi-password", &args.wifi_password),
        ("network", "wifi-country", &args.wifi_country),
    ] {
        if let Some(value) = value {
            text = set(&text, table, name, &quoted(value))?;
        }
    }
    for (key, value) in &args.labels {
        text = set(&text, "agent.labels", &bare(key), &quoted(value))?;
    }
    for (path, written) in &args.settings {
        let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
        text = set(&text, table, name, &settings::value(written))?;
    }
    Ok(text)
}

/// A key as TOML has it: in quotes where it has more than letters, digits, - and _.
fn bare(key: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    if key.chars().all(plain) { key.to_owned() } else { format!("\"{key}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_go_to_their_places() {
        let args = PersonalizeArgs {
            image: PathBuf::new(),
            controller: Some("mqtt://10.0.0.5".to_owned()),
            token: Some("t".to_owned()),
            labels: vec![
                ("site".to_owned(), "north".to_owned()),
                ("a.b".to_owned(), "c".to_owned()),
            ],
            host_name: None,
            wifi_ssid: Some("pumps".to_owned()),
            wifi_password: Some("12345678".to_owned()),
            wifi_country: None,
            settings: vec![("board.console".to_owned(), "true".to_owned())],
        };
        let text = changed(include_str!("../../../../images/boards/limpet.toml"), &args).unwrap();
        for line in [
            "controller = \"mqtt://10.0.0.5\"",
            "join-token = \"t\"",
            "site = \"north\"",
            "\"a.b\" = \"c\"",
            "console = true",
            "wifi-ssid = \"pumps\"",
            "wifi-password = \"12345678\"",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
    }
}
