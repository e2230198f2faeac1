//! A fleet of emulated boards: a controller on this machine, and boards at one network that join it.

use limpet_images::board::Board;

use super::{EmulatedBoard, Wire, wait_for_board};
use crate::fleet::Fleet;

/// Boards that have joined a controller.
#[derive(Debug)]
pub struct BoardFleet {
    /// Declared first: boards end before what they talk to.
    pub boards: Vec<EmulatedBoard>,
    /// The controller, at the hub of a site where the boards are.
    pub fleet: Fleet,
}

impl BoardFleet {
    /// Switches boards on and waits until all have joined. Each has a name, which is its label `place` too.
    ///
    /// # Panics
    /// When one does not join.
    #[must_use]
    pub fn start(wanted: &[(&str, Board)]) -> Self {
        let mut fleet = Fleet::on_a_site();
        let token = fleet.limpet_json(&["token", "create"]);
        let token = token["token"].as_str().unwrap();
        let host = fleet.site().host();
        let broker = format!("mqtt://{host}:{}", fleet.mqtt_port());
        let mut boards = Vec::new();
        for (name, kind) in wanted {
            let port = fleet.wire_board(name);
            let address = format!("network.address={}/24", fleet.site().address(name));
            let (gateway, label) = (format!("network.gateway={host}"), format!("place={name}"));
            let mut settings = vec!["--host-name", name, "--controller", &broker];
            settings.extend(["--token", token, "--label", &label]);
            settings.extend(["--set", &address, "--set", &gateway]);
            let mut board = EmulatedBoard::make(*kind, &fleet.folder().join(name), &settings);
            board.switch_on(Wire::Site(fleet.site(), &port));
            boards.push(board);
        }
        wait_for_board("all boards to be ready", || {
            let nodes = fleet.limpet_json(&["node", "ls"]);
            let ready = nodes.as_array()?.iter().filter(|node| node["status"] == "ready").count();
            (ready == wanted.len()).then_some(())
        });
        Self { boards, fleet }
    }
}
