//! What a person may write, and what is said when it is wrong.

use super::*;

fn args() -> AgentArgs {
    AgentArgs { controller: Some("mqtt://10.0.0.1".to_owned()), ..AgentArgs::default() }
}

#[test]
fn flags_go_before_the_file_and_the_file_before_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(
        &path,
        "controller = \"mqtt://file:1\"\nnode-name = \"from-file\"\nstop-on-exit = true\n[labels]\nsite = \"north\"\nrack = \"1\"\n",
    )
    .unwrap();
    let args = AgentArgs {
        config: Some(path),
        controller: Some("mqtt://flag:2".to_owned()),
        labels: vec!["site=south".to_owned()],
        ..AgentArgs::default()
    };
    let config = Config::load(&args).unwrap();
    assert_eq!((config.controller.host.as_str(), config.controller.port), ("flag", 2));
    assert_eq!(config.node_name.unwrap().as_str(), "from-file");
    assert_eq!(config.labels["site"], "south");
    assert_eq!(config.labels["rack"], "1");
    assert!(config.stop_on_exit);
    assert_eq!(config.data, Path::new(DEFAULT_DATA));
}

#[test]
fn wrong_values_are_named() {
    let message = |args: &AgentArgs| Config::load(args).unwrap_err().to_string();
    assert!(message(&AgentArgs::default()).contains("--controller mqtt://HOST:1883"));
    let args_with = |change: fn(&mut AgentArgs)| {
        let mut args = args();
        change(&mut args);
        message(&args)
    };
    assert!(args_with(|a| a.labels = vec!["=x".into()]).contains("label \"=x\""));
    assert!(args_with(|a| a.labels = vec!["a b=c".into()]).contains("label \"a b=c\""));
    assert!(args_with(|a| a.labels = vec!["x".into()]).contains("label \"x\": write KEY=VALUE"));
    assert!(args_with(|a| a.node_name = Some("A b".into())).contains("node name \"A b\""));
    assert!(args_with(|a| a.cgroup_parent = Some("limpet".into())).contains("cgroup-parent"));
    assert!(args_with(|a| a.cgroup_parent = Some("/a/../b".into())).contains("absolute"));
    assert!(args_with(|a| a.config = Some("/nonexistent.toml".into())).contains("/nonexistent"));
}

#[test]
fn a_registrys_ca_is_for_one_or_for_all() {
    let cas = |given: &str| {
        let registry_cas = vec![given.to_owned()];
        Config::load(&AgentArgs { registry_cas, ..args() }).map(|config| config.registry_cas)
    };
    let ca = |registry: Option<&str>| {
        vec![RegistryCa { registry: registry.map(str::to_owned), file: "/etc/ca.pem".into() }]
    };
    assert_eq!(cas("/etc/ca.pem").unwrap(), ca(None));
    assert_eq!(cas("hub.example:5000=/etc/ca.pem").unwrap(), ca(Some("hub.example:5000")));
    for wrong in ["=/etc/ca.pem", "hub.example="] {
        assert!(cas(wrong).unwrap_err().to_string().contains("HOST[:PORT]=FILE"), "{wrong}");
    }
    let file = File { registry_cas: vec!["/etc/ca.pem".into()], ..File::default() };
    assert_eq!(Config::merge(&args(), file).unwrap().registry_cas, ca(None));
}

#[test]
fn an_unknown_key_of_the_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, "contoller = \"mqtt://a\"\n").unwrap();
    let error = Config::load(&AgentArgs { config: Some(path), ..args() }).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("line 1") && cause.contains("contoller"), "{cause}");
}

#[test]
fn the_token_comes_from_a_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "geheim\n").unwrap();
    let config = Config::load(&AgentArgs { join_token_file: Some(path), ..args() }).unwrap();
    assert_eq!(config.join_token.as_ref().unwrap().reveal(), "geheim");
    assert!(!format!("{config:?}").contains("geheim"));
}

#[test]
fn the_network_is_on_unless_told_otherwise() {
    let default = Config::load(&args()).unwrap().network;
    assert_eq!((default.switch, default.mesh_port), (Switch::On, DEFAULT_MESH_PORT));
    let text = "network = \"off\"\nmesh-port = 7\nmesh-endpoints = [\"203.0.113.9:51820\"]\n";
    let file: File = toml::from_str(text).unwrap();
    let told = Config::merge(&args(), file).unwrap().network;
    assert_eq!((told.switch, told.mesh_port), (Switch::Off, 7));
    assert_eq!(told.mesh_endpoints, ["203.0.113.9:51820".parse().unwrap()]);
    assert!(toml::from_str::<File>("mesh-endpoints = [\"router\"]").is_err());
}
