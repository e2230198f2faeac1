//! Two boards at one network, whose kernels have WireGuard: their containers reach each other by name, and
//! what that costs beside the agent's own tunnel.

use limpet_images::board::Board;
use limpet_images::{ImageBuilder, Layer};
use limpet_tests::board::{BoardFleet, EmulatedBoard, busybox, wait_for_board};

const BOARDS: [(&str, Board); 2] = [("bow", Board::VirtArm64), ("stern", Board::VirtArm64)];
const PUBLISHED: u16 = 8080;
/// What is fetched through the tunnel.
const LARGE_MEGABYTES: f64 = 5.0;
const COMPOSE: &str = "
services:
  front:
    image: web:1
    command: [sh, -c, 'echo of the bow > /www/index.html; exec httpd -f -p 80 -h /www']
    tmpfs: [/www]
    deploy: {placement: {constraints: [node.labels.place == bow]}}
  back:
    image: web:1
    command: [sh, -c, 'echo of the stern > /www/index.html; head -c 5000000 /dev/zero > /www/large; exec httpd -f -p 80 -h /www']
    tmpfs: [/www]
    ports: ['8080:80']
    deploy: {placement: {constraints: [node.labels.place == stern]}}
";

fn web() -> Vec<u8> {
    let mut layer = Layer::new();
    for folder in ["bin", "dev", "etc", "proc", "sys", "www"] {
        layer.folder(folder, 0o755);
    }
    layer.folder("tmp", 0o1777).file("bin/busybox", 0o755, &busybox("arm64"));
    for applet in ["sh", "httpd", "wget", "head", "ping", "cut"] {
        layer.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    let mut builder = ImageBuilder::new("web:1");
    builder.platforms(&["linux/arm64".parse().unwrap()]).layer(&layer).environment("PATH=/bin");
    builder.archive()
}

struct Pair(BoardFleet);

impl Pair {
    fn start() -> Self {
        let pair = Self(BoardFleet::start(&BOARDS));
        pair.0.fleet.load_image(&web());
        pair
    }

    /// Waits until each board has a tunnel of a kind, and the other answers through it.
    fn wait_tunnels(&self, kinds: [&str; 2]) {
        wait_for_board(&format!("tunnels by {kinds:?}"), || {
            let is_up = |((name, _), kind): ((&str, Board), &str)| {
                let node = self.0.fleet.limpet_json(&["node", "inspect", name]);
                let network = &node["network"];
                network["tunnel"] == kind && network["unreachable"] == serde_json::json!([])
            };
            BOARDS.into_iter().zip(kinds).all(is_up).then_some(())
        });
    }

    /// What a program in the front's container writes. None if it fails.
    fn at_front(&self, command: &[&str]) -> Option<String> {
        let output = self.0.fleet.try_limpet(&[&["exec", "sea.front", "--"], command].concat());
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait_front(&self, command: &[&str], word: &str) {
        wait_for_board(&format!("{word:?} from {command:?}"), || {
            self.at_front(command).filter(|said| said.contains(word)).map(|_| ())
        });
    }

    /// How fast the large file comes from the stern to the bow's container, and the way to and fro, in words.
    fn measure(&self) -> String {
        let times = self.at_front(&["sh", "-c", &fetch("http://back/large")]);
        let ping = self.at_front(&["ping", "-q", "-c", "50", "-i", "0.1", "sea.back.1"]);
        let ping = ping.expect("the instance answers by its name");
        format!("{}; {}", rate(&times.expect("the file comes")), ping.lines().last().unwrap())
    }

    /// The same between the boards themselves, in clear.
    fn measure_in_clear(&mut self) -> String {
        let stern = self.0.fleet.site().address("stern");
        let [bow, other] = self.0.boards.as_mut_slice() else { panic!("two boards") };
        other.shell("cd /tmp; head -c 5000000 /dev/zero > large; httpd -p 8088 -h /tmp");
        let times = bow.shell(&fetch(&format!("http://{stern}:8088/large")));
        let ping = bow.shell(&format!("ping -q -c 50 -i 0.1 {stern} | tail -n 1"));
        format!("{}; {}", rate(&times), ping.trim())
    }
}

/// A command that fetches something some times, and writes the time before and after each.
fn fetch(what: &str) -> String {
    let now = "cut -d ' ' -f 1 /proc/uptime";
    format!("{now}; for i in 1 2 3 4 5; do wget -q -O /dev/null {what} || exit 1; {now}; done")
}

/// What the times say: the fastest of them. The agent's log goes to the same line as a shell's words.
fn rate(times: &str) -> String {
    let times: Vec<f64> = times.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(times.len() > 1, "{times:?}");
    let shortest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::MAX, f64::min);
    format!("{LARGE_MEGABYTES} MB in {shortest:.2} s, {:.2} MB/s", LARGE_MEGABYTES / shortest)
}

/// Takes the kernel's WireGuard away from a board, which a kernel without it never had.
fn take_wireguard(board: &mut EmulatedBoard) {
    let said = board.shell(
        "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $c | grep -q '^limpet-agent --config' && p=${c%/cmdline} && kill ${p#/proc/}; done; \
         for d in /sys/class/net/lw*; do ip link del ${d##*/}; done; rmmod wireguard; grep -c wireguard /proc/modules",
    );
    assert!(said.ends_with("0\n"), "{said}");
}

#[test]
#[ignore = "boots emulated boards: tests/boards"]
fn containers_of_two_arm_boards_reach_each_other_through_the_kernels_wireguard() {
    let mut pair = Pair::start();
    pair.0.fleet.apply("sea", COMPOSE, &[]);
    pair.wait_tunnels(["kernel"; 2]);
    pair.wait_front(&["wget", "-q", "-O", "-", "http://back/"], "of the stern");
    for (board, _) in BOARDS {
        wait_for_board("the published port of each board", || {
            let site = pair.0.fleet.site();
            let answer = site.at("hub", || request(&site.address(board)))?;
            answer.contains("of the stern").then_some(())
        });
    }
    let in_clear = pair.measure_in_clear();
    let kernel = pair.measure();
    take_wireguard(&mut pair.0.boards[0]);
    pair.wait_tunnels(["userland", "kernel"]);
    pair.wait_front(&["wget", "-q", "-O", "-", "http://back/"], "of the stern");
    take_wireguard(&mut pair.0.boards[1]);
    pair.wait_tunnels(["userland"; 2]);
    pair.wait_front(&["wget", "-q", "-O", "-", "http://back/"], "of the stern");
    let userland = pair.measure();
    eprintln!("in clear: {in_clear}\nby the kernel: {kernel}\nby the agent: {userland}");
}

/// One request to the published port of a board.
fn request(address: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut connection = std::net::TcpStream::connect((address, PUBLISHED)).ok()?;
    connection.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}
