//! What happens to frameworks: they connect, hear, think and answer.
//!
//! Invariant: what a framework wants is its own; here it is only carried to and fro.

use crate::network::{Message, Peer, Side};
use crate::world::{Happening, World};
use rand::Rng;
use scheduler::master;
use scheduler::model::{ConnectionId, FrameworkCall, FrameworkEvent};

impl World {
    pub fn connect_client(&mut self, client: usize) {
        let framework = &self.clients[client];
        if !framework.is_up || framework.connection.is_some() {
            return;
        }
        if framework.has_torn_down && self.has_ended(client) {
            return;
        }
        if self.master.is_none() {
            return self.reconnect_client(client);
        }
        let connection = self.network.open(Peer::Framework(client));
        self.clients[client].connection = Some(connection);
        let call = self.clients[client].subscribe();
        self.client_calls(connection, vec![call]);
    }

    pub fn has_ended(&self, client: usize) -> bool {
        let Some(id) = &self.clients[client].id else { return true };
        let ended = master::Record::FrameworkEnded { framework_id: id.clone() };
        self.registry.get(&ended.key()) == Some(&ended)
    }

    pub fn reconnect_client(&mut self, client: usize) {
        let (life, pause_ms) = (self.clients[client].life, self.rng.random_range(50..800));
        self.after(pause_ms, Happening::ClientConnect { client, life });
    }

    pub fn client_calls(&mut self, connection: ConnectionId, calls: Vec<FrameworkCall>) {
        for call in calls {
            self.send(connection, Side::Master, Message::FromFramework(call));
        }
    }

    pub fn client_hears(&mut self, client: usize, connection: ConnectionId, event: FrameworkEvent) {
        if self.clients[client].connection != Some(connection) {
            return;
        }
        if let (FrameworkEvent::Update(status), Some(id)) = (&event, &self.clients[client].id) {
            self.updates.received(id, status);
        }
        let calls = self.clients[client].hear(&mut self.rng, &mut self.hits, self.now_ms, event);
        self.client_calls(connection, calls);
    }

    pub fn wake_client(&mut self, client: usize) {
        let framework = &mut self.clients[client];
        let calls = framework.answer(&mut self.rng, &mut self.hits, self.now_ms, self.is_calm);
        let (connection, life) = (framework.connection, framework.life);
        if let Some(connection) = connection {
            self.client_calls(connection, calls);
        }
        let pause_ms = self.rng.random_range(100..700);
        self.after(pause_ms, Happening::ClientWake { client, life });
    }
}
