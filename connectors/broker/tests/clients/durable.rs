//! What is acknowledged is there after the broker has gone, however it went; and nothing but clients gets in.

use crate::world::{World, as_texts, names, send};
use broker::{Broker, Config, Error};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn records_survive_restarts_and_crashes() {
    let mut world = World::start();
    world.create("t", 1, &[("segment.bytes", "5000")]);
    let producer = world.producer(&[("enable.idempotence", "true"), ("linger.ms", "0")]);
    let values = names(0..300);
    for (at, piece) in values.chunks(100).enumerate() {
        send(&producer, "t", 0, &as_texts(piece));
        match at {
            0 => world.restart(),
            _ => world.crash(),
        }
        assert_eq!(world.values("t", 0, "read_committed"), values[..(at + 1) * 100]);
    }
}

#[test]
fn one_broker_in_a_folder_and_only_on_this_machine() {
    let world = World::start();
    let here = Config::new("127.0.0.1:0".parse().expect("an address"), world.dir.path().join("broker"));
    assert!(matches!(world.block_on(Broker::start(here.clone())).err(), Some(Error::InUse { .. })));
    let open = Config { listen: "0.0.0.0:0".parse().expect("an address"), ..here.clone() };
    assert!(matches!(world.block_on(Broker::start(open)).err(), Some(Error::NotLocal { .. })));
    let taken =
        Config { listen: SocketAddr::from(([127, 0, 0, 1], world.port)), data_dir: world.dir.path().join("b"), ..here };
    let error = world.block_on(Broker::start(taken)).err().expect("refused").to_string();
    assert!(error.contains("another port"), "{error}");
}

#[test]
fn other_protocols_are_shown_the_door() {
    let world = World::start();
    for said in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        &[0xff; 64],
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", world.port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        stream.write_all(said).expect("sent");
        let mut answer = Vec::new();
        // Closed, with or without a word that the kernel makes of unread bytes.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    send(&world.producer(&[]), "t", 0, &["still here"]);
    assert_eq!(world.values("t", 0, "read_committed"), ["still here"]);
}
