//! Air between two radios of one emulated board: its own, and that of an access point beside it.
//!
//! The kernel's `mac80211_hwsim` makes two radios that hear each other. One is the board's, which its image
//! finds as it would find a chip; the other is `hostapd`'s, at a bridge with the board's Ethernet. So what the board
//! sends goes by its radio, through the air, to the access point, and out. hostapd and the modules are Debian's, in the
//! board's memory beside its image.

use std::fs;
use std::process::Command;

use limpet_images::board::{Board, fetch};

use super::{EmulatedBoard, package_cache, unpack};

/// What the radios encrypt with (a chip does that itself), the radios, the bridge, each after what it needs. Names of
/// files in the kernel's package.
const MODULES: [&str; 9] =
    ["ccm", "cmac", "ctr", "libarc4", "mac80211", "mac80211_hwsim", "llc", "stp", "bridge"];
/// Where the board has it all.
const PLACE: &str = "lib/air";

/// A network that an access point makes.
#[derive(Debug, Clone, Copy)]
pub struct AccessPoint {
    /// Its name.
    pub ssid: &'static str,
    /// Its password.
    pub password: &'static str,
}

/// A board's air.
#[derive(Debug)]
pub struct Air;

impl Air {
    /// Puts radios and access point into a board, for its next start.
    ///
    /// # Panics
    /// When Debian's packages cannot be had.
    pub fn put_into(board: &mut EmulatedBoard, point: AccessPoint) {
        let packages = ["linux-image-arm64", "hostapd"];
        let packages = fetch(Board::RaspiArm64, &package_cache(), &packages).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (unpacked, root) = (folder.path().join("unpacked"), folder.path().join("root"));
        let place = root.join(PLACE);
        fs::create_dir_all(&place).unwrap();
        for (_, package) in &packages {
            unpack(package, &unpacked);
        }
        let hostapd = unpacked.join("usr/sbin/hostapd");
        fs::copy(hostapd, place.join("hostapd")).unwrap();
        let AccessPoint { ssid, password } = point;
        let configuration = format!(
            "interface=wlan1\nbridge=br0\nssid={ssid}\nhw_mode=g\nchannel=6\nwpa=2\n\
             rsn_pairwise=CCMP\nieee80211w=1\nwpa_passphrase={password}\n"
        );
        fs::write(place.join("hostapd.conf"), configuration).unwrap();
        let mut find = Command::new("find");
        let found = find.arg(&unpacked).args(["-name", "*.ko"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        for name in MODULES {
            let file = format!("/{name}.ko");
            let path = found.lines().find(|path| path.ends_with(&file)).expect(name);
            fs::copy(path, place.join(&file[1..])).unwrap();
        }
        let mut pack = Command::new("busybox");
        pack.args(["sh", "-c", "busybox find . | busybox cpio -o -H newc -R 0:0"]);
        let packed = pack.current_dir(&root).output().unwrap();
        assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
        board.more = packed.stdout;
    }

    /// Makes radios and bridge, once after a start, in the board's shell. The image's own modules for Wi-Fi are there then.
    pub fn clear(board: &mut EmulatedBoard) {
        board.wait_console("board ready");
        let modules = MODULES.map(|name| format!("insmod /{PLACE}/{name}.ko")).join("; ");
        let bridge =
            "brctl addbr br0; brctl addif br0 eth0; ip link set eth0 up; ip link set br0 up";
        board.shell(&format!(
            "until [ -e /run/wifi/unpacked ] && [ -e /sys/class/net/eth0 ]; do sleep 1; done; [ -e /sys/class/net/br0 ] || {{ {modules}; {bridge}; }}"
        ));
    }

    /// Switches the access point on. `keys` is how it asks for its password, as `hostapd.conf` has it: `WPA-PSK` for WPA2,
    /// `SAE` for WPA3.
    ///
    /// # Panics
    /// When it does not work.
    pub fn point_on(board: &mut EmulatedBoard, keys: &str) {
        let said = board.shell(&format!(
            "(cat /{PLACE}/hostapd.conf; echo wpa_key_mgmt={keys}) > /run/hostapd.conf; \
             kill -0 $(cat /run/hostapd) || /run/wifi/ld.so --library-path /run/wifi/lib \
             /{PLACE}/hostapd -B -P /run/hostapd /run/hostapd.conf"
        ));
        assert!(!said.contains("AP-DISABLED"), "{said}");
    }

    /// Switches it off, and waits until it is: one that has still to say farewell would be taken for one that is on.
    pub fn point_off(board: &mut EmulatedBoard) {
        board.shell(
            "pid=$(cat /run/hostapd); kill $pid; while kill -0 $pid 2> /dev/null; do sleep 1; done",
        );
    }
}
