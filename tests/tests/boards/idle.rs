//! What a board costs that has nothing to do: nothing is written to its card. Memory, sizes, and how soon all
//! runs again after a power cut without a network are shown.

use limpet_images::board::{self, Board};
use limpet_images::{ImageBuilder, Layer};
use limpet_tests::board::{EmulatedBoard, HOST, Wire, busybox, wait_for_board};
use limpet_tests::fleet::Fleet;

/// How many instances do nothing.
const INSTANCES: usize = 10;
/// How long nothing may be written, as long as the kernel keeps changed pages of files before it writes them
/// (`vm.dirty_expire_centisecs`), twice.
const IDLE_SECONDS: u64 = 60;

/// An image that sleeps. A processor by the names of images and of Debian.
pub(crate) fn sleeper(platform: &str, architecture: &str) -> Vec<u8> {
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "proc", "sys"] {
        layer.folder(folder, 0o755);
    }
    layer.folder("tmp", 0o1777).file("bin/busybox", 0o755, &busybox(architecture));
    layer.hard_link("bin/sleep", "bin/busybox");
    let mut builder = ImageBuilder::new("sleeper:1");
    builder.platforms(&[platform.parse().unwrap()]).layer(&layer);
    builder.command(&["/bin/sleep", "1000000"]).archive()
}

/// Sectors written to the card, as `/proc/diskstats` counts them.
fn written(board: &mut EmulatedBoard) -> u64 {
    let line = board.shell("grep -E ' (vda|mmcblk[01]) ' /proc/diskstats");
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn an_idle_arm_board_writes_nothing() {
    idle(Board::VirtArm64, "linux/arm64", "arm64");
}

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn an_idle_raspberry_pi_zero_writes_nothing() {
    idle(Board::RaspiZero, "linux/arm/v6", "armel");
}

fn idle(kind: Board, platform: &str, architecture: &str) {
    let fleet = Fleet::start();
    let token = fleet.limpet_json(&["token", "create"]);
    let token = token["token"].as_str().unwrap();
    let broker = format!("mqtt://{HOST}:{}", fleet.mqtt_port());
    let settings = ["--host-name", "pump", "--controller", &broker, "--token", token];
    let mut board = EmulatedBoard::make(kind, &fleet.folder().join("board"), &settings);
    fleet.load_image(&sleeper(platform, architecture));
    board.switch_on(Wire::Plugged);
    let compose =
        format!("services: {{rest: {{image: 'sleeper:1', deploy: {{replicas: {INSTANCES}}}}}}}");
    fleet.apply("sea", &compose, &[]);
    wait_for_board("all instances to run", || {
        let all = fleet.instances();
        let running = all.iter().filter(|it| it["phase"] == "running").count();
        (running == INSTANCES).then_some(())
    });
    board.shell("sync; sync; sleep 8; sync");
    let before = written(&mut board);
    for _ in 0..IDLE_SECONDS / 10 {
        board.shell("sleep 10");
    }
    board.shell("sync");
    let sectors = written(&mut board) - before;
    let pss = board.shell(
        "grep -h '^Pss:' $(for p in $(pidof limpet-agent); do echo /proc/$p/smaps_rollup; done)",
    );
    let private = board.shell("grep -h '^Pss_Anon:' $(for p in $(pidof limpet-agent); do echo /proc/$p/smaps_rollup; done)");
    let free = board.shell("free -k | head -n 2; cut -d ' ' -f 1 /proc/uptime");
    let initramfs = board::boot_file(&board.card(), board::INITRAMFS).unwrap().len();
    eprintln!(
        "written in {IDLE_SECONDS} s: {sectors} sectors\nagent and keeper, {INSTANCES} instances: {pss}\n{private}\n{free}\ninitrd.img {initramfs} bytes"
    );
    eprintln!("{}", starts_again(&mut board));
    assert_eq!(sectors, 0, "an idle board writes nothing to its card");
}

/// Pulls the plug and the network, and counts instructions from the agent's first to the start of the last
/// instance, and those of agent and keeper. The kernel counts time in hundredths of a second (proc(5), `stat`),
/// of which each is ten million instructions then.
fn starts_again(board: &mut EmulatedBoard) -> String {
    board.pull_the_plug();
    board.count_instructions();
    board.switch_on(Wire::None);
    board.wait_console("board ready");
    let running = "for p in /proc/[0-9]*; do case \"$(tr '\\0' ' ' < $p/cmdline)\" in '/bin/sleep 1000000 ') cut -d ' ' -f 22 $p/stat;; esac; done";
    wait_for_board("all instances to run again", || {
        let count = board.shell(&format!("({running}) | wc -l"));
        (count.trim() == INSTANCES.to_string()).then_some(())
    });
    let last = format!("({running}) | sort -n | tail -n 1");
    let agents = "for p in $(pidof limpet-agent); do cut -d ' ' -f 2,14,15,22 /proc/$p/stat; done";
    let (last, agents) = (board.shell(&last), board.shell(agents));
    format!(
        "after a power cut, tens of millions of instructions since the kernel's start: last instance {last}keeper and agent (user, kernel, began):\n{agents}"
    )
}
