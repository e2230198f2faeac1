//! A board without a cable: Debian's `wpa_supplicant` and `hostapd` and the kernel's emulated radios.

use limpet_images::board::Board;
use limpet_tests::board::{AccessPoint, Air, EmulatedBoard, HOST, Wire, wait_for_board};
use limpet_tests::fleet::Fleet;

use crate::idle::sleeper;

/// A name and a password that a script could break at.
const POINT: AccessPoint = AccessPoint { ssid: "tide pool #1", password: "it's \"low\" $PATH #7" };

#[test]
#[ignore = "boots an emulated board: tests/boards"]
fn a_raspberry_pi_joins_by_wifi_and_comes_back_with_it() {
    let fleet = Fleet::start();
    let token = fleet.limpet_json(&["token", "create"]);
    let token = token["token"].as_str().unwrap();
    let broker = format!("mqtt://{HOST}:{}", fleet.mqtt_port());
    let mut settings = vec!["--host-name", "buoy", "--controller", &broker, "--token", token];
    settings.extend(["--wifi-ssid", POINT.ssid, "--wifi-password", POINT.password]);
    settings.extend(["--wifi-country", "DE"]);
    let mut board =
        EmulatedBoard::make(Board::RaspiArm64, &fleet.folder().join("board"), &settings);
    Air::put_into(&mut board, POINT);
    board.switch_on(Wire::Plugged);
    Air::clear(&mut board);
    Air::point_on(&mut board, "SAE");
    wait_for_board("the board to be ready", || {
        let nodes = fleet.limpet_json(&["node", "ls"]);
        let buoy = nodes.as_array()?.iter().find(|node| node["node"] == "buoy")?.clone();
        (buoy["status"] == "ready").then_some(())
    });
    let way = board.shell("ip route; ip -4 address show dev eth0; cat /proc/sys/kernel/hostname");
    assert!(way.contains("default via 10.0.2.2 dev wlan0"), "{way}");
    assert!(!way.contains("inet "), "the cable is the access point's: {way}");
    let secret = board.shell("ls -l /run/board/wifi.conf");
    assert!(secret.starts_with("-rw-------"), "{secret}");

    Air::point_off(&mut board);
    board.wait_console("CTRL-EVENT-DISCONNECTED");
    Air::point_on(&mut board, "WPA-PSK");
    fleet.load_image(&sleeper("linux/arm64", "arm64"));
    fleet.apply("sea", "services: {light: {image: 'sleeper:1'}}", &[]);
    wait_for_board("the light to run", || {
        let all = fleet.instances();
        all.iter().find(|it| it["service"] == "light" && it["phase"] == "running").map(|_| ())
    });
}
