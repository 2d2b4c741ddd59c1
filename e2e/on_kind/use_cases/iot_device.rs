//! `iot-device`: a device that speaks MQTT with a real Mosquitto, and listens to what it is told there.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::{Value, json};

use super::UseCase;
use crate::on_kind::cluster::PATIENCE;

/// A device, and the commands that it was given and has not looked at.
struct Device {
    client: AsyncClient,
    events: EventLoop,
    commands: Vec<Value>,
}

impl Device {
    async fn connect(port: u16) -> Self {
        let mut options = MqttOptions::new("pump-1", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(60));
        let (client, events) = AsyncClient::new(options, 8);
        let mut device = Self { client, events, commands: Vec::new() };
        device.client.subscribe("devices/pump-1/command", QoS::AtLeastOnce).await.expect("queued");
        while !matches!(device.next().await, Event::Incoming(Packet::SubAck(_))) {}
        device
    }

    /// What happens next between it and the broker.
    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.poll()).await.expect("the broker says something");
        let event = event.expect("a connection");
        if let Event::Incoming(Packet::Publish(message)) = &event {
            self.commands.push(serde_json::from_slice(&message.payload).expect("JSON"));
        }
        event
    }

    async fn says(&mut self, celsius: f64) {
        let payload = json!({"celsius": celsius}).to_string();
        self.client.publish("devices/pump-1/state", QoS::AtLeastOnce, false, payload).await.expect("queued");
        while !matches!(self.next().await, Event::Incoming(Packet::PubAck(_))) {}
    }

    /// Waits until it is given this command. Others that it was given are kept: where the operator was away meanwhile, it may have been silent before.
    async fn obeys(&mut self, command: Value) {
        let obeyed = async {
            loop {
                if let Some(at) = self.commands.iter().position(|given| *given == command) {
                    return self.commands.remove(at);
                }
                self.next().await;
            }
        };
        tokio::time::timeout(PATIENCE, obeyed).await.unwrap_or_else(|_| unreachable!("{command} did not come"));
    }
}

#[tokio::test]
async fn a_device_that_is_too_hot_is_commanded_and_one_that_is_silent_told_of_and_restarted() {
    let case = UseCase::prepare("iot-device", "e2e-iot").await;
    case.begin(&["device-too-hot", "device-silent"], &[("absent: {for: 10m}", "absent: {for: 15s}")]).await;
    let way = case.forward("mosquitto", 1883).await;
    let mut device = Device::connect(way.port).await;
    device.says(21.5).await;
    device.says(85.5).await;
    device.obeys(json!({"command": "fan", "speed": 100, "celsius": 85.5})).await;
    device.says(65.0).await;
    device.obeys(json!({"command": "fan", "speed": 0, "celsius": 65.0})).await;

    // Now it says nothing more.
    device.obeys(json!({"command": "restart"})).await;
    case.told("text", "nothing for ten minutes; it said 65 °C last").await;
    device.says(30.0).await;
    let told = case.told("text", "it says 30 °C").await;
    assert_eq!(told["title"], "device pump-1 is back");
}
