//! A fleet of three emulated boards for people to look at: a controller on this machine, boards that have joined
//! it, an application on them, and a shell in which `limpet` talks to it. The end of the shell is the end of it all.
//!
//! `tests/boards up` builds what is needed and starts this.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use std::path::Path;

use limpet_images::board::Board;
use limpet_images::{ImageBuilder, Layer};
use limpet_tests::board::{BoardFleet, busybox};
use limpet_tests::process::program;
use tokio::signal::unix::SignalKind;

const BOARDS: [(&str, Board); 3] =
    [("bow", Board::VirtArm64), ("stern", Board::VirtArm64), ("mast", Board::RaspiArm64)];
const COMPOSE: &str = "
services:
  web: # each instance says which it is
    image: board:1
    command: [sh, -c, 'hostname > /www/index.html; exec httpd -f -p 80 -h /www']
    tmpfs: [/www]
    ports: ['8080:80']
    deploy:
      replicas: 3
      resources: {limits: {cpus: '0.5', memory: 32M}}
  clock:
    image: board:1
    command: [sh, -c, 'while sleep 5; do date; done']
    deploy: {mode: global}
";

/// The image of the application: a shell and a web server for the boards.
fn image() -> Vec<u8> {
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "proc", "sys", "www"] {
        layer.folder(folder, 0o755);
    }
    layer.folder("tmp", 0o1777).file("bin/busybox", 0o755, &busybox("arm64"));
    for applet in ["sh", "date", "hostname", "httpd", "sleep", "wget"] {
        layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    let mut builder = ImageBuilder::new("board:1");
    builder.platforms(&["linux/arm64".parse().unwrap()]).layer(&layer).environment("PATH=/bin");
    builder.archive()
}

fn main() {
    // Ctrl-C is for what runs in the shell: this program has to take everything away again.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let _ignored = tokio::signal::unix::signal(SignalKind::interrupt()).unwrap();
    drop(entered);
    println!("switching three boards on, which takes a minute");
    let site = BoardFleet::start(&BOARDS);
    site.fleet.load_image(&image());
    site.fleet.apply("deck", COMPOSE, &["--wait"]);
    println!("{}", site.fleet.limpet(&["node", "ls"]));
    println!(
        "The published port of deck.web, and the serial line with a root shell, at each board:"
    );
    for ((name, _), board) in BOARDS.iter().zip(&site.boards) {
        let (address, line) = (site.fleet.site().address(name), board.console_socket());
        println!("  {name}: http://{address}:8080/  socat - UNIX:{}", line.display());
    }
    println!(
        "Look around: limpet node ls, limpet ps, limpet top, limpet logs -f deck.clock; exit ends it all."
    );
    let known = site.fleet.limpet_command(&[]);
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = site.fleet.site().command("hub", Path::new(&shell));
    let told = known.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(told).env_remove("NO_COLOR").env("PS1", "boards$ ");
    let own = program("limpet").parent().unwrap().to_owned();
    let before = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&before)));
    drop(command.env("PATH", path.unwrap()).status());
}
