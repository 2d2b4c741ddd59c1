//! Mosquitto, with its data in a folder of its own, and what tests publish there.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use signalbox::net::mqtt::{
    Client, Connect, Incoming, Message, Outgoing, Properties, Published, Qos, Receipt, Subscription, Version,
};
use tokio::{
    io::{copy, sink},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::servers::program;
use crate::support::{
    PATIENCE, eventually,
    http::free_port,
    process::{Process, Workspace},
};

/// A broker. Dropping it kills it.
pub struct Mosquitto {
    pub port: u16,
    workspace: Workspace,
    process: Option<Process>,
}

impl Mosquitto {
    /// Lets in everybody, and keeps sessions and as much for them as comes.
    pub async fn start() -> Self {
        Self::with("allow_anonymous true", &[]).await
    }

    /// `config` is that of the listener; it names the files as `FOLDER/<name>`.
    pub async fn with(config: &str, files: &[(&str, &str)]) -> Self {
        let mut broker = Self { port: free_port(), workspace: Workspace::new("mosquitto"), process: None };
        let folder = broker.workspace.path().display();
        let text = format!(
            "user root\nper_listener_settings false\npersistence true\npersistence_location {folder}/\n\
             max_queued_messages 0\nlistener {} 127.0.0.1\n{config}\n",
            broker.port
        )
        .replace("FOLDER", &folder.to_string());
        broker.workspace.write("mosquitto.conf", text);
        for (name, content) in files {
            broker.workspace.write(name, content);
        }
        broker.begin().await;
        broker
    }

    /// Kills it: what it has not written down is lost.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again.
    pub async fn begin(&mut self) {
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(self.workspace.path().join("mosquitto.conf"));
        self.process = Some(self.workspace.spawn("mosquitto", command));
        let port = self.port;
        eventually("mosquitto listens", PATIENCE, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    }

    /// Asks it to end, which writes sessions and messages down, and starts it again.
    pub async fn restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("TERM");
            eventually("mosquitto has ended", PATIENCE, async || process.ended()).await;
        }
        self.begin().await;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// What is published.
#[derive(Clone, Debug, Default)]
pub struct Say {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub properties: Properties,
}

pub fn say(topic: &str, payload: impl Into<Vec<u8>>) -> Say {
    Say { topic: topic.to_owned(), payload: payload.into(), ..Say::default() }
}

/// Publishes with QoS 1, and waits until the broker has it all.
pub async fn publish(port: u16, all: impl IntoIterator<Item = Say>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a broker");
    let connect = Connect {
        client_id: &format!("publisher-{}", fastrand::u64(..)),
        login: None,
        session: None,
        keep_alive: 60,
        in_flight: 100,
        max_payload: 1024,
    };
    let (mut client, _) = Client::connect(stream, Version::V5, connect).await.expect("a connection");
    let (mut sent, mut taken) = (0_u16, 0_u16);
    let messages: Vec<Say> = all.into_iter().collect();
    for part in messages.chunks(10) {
        let packets: Vec<Outgoing> = part
            .iter()
            .map(|say| {
                sent += 1;
                let Say { topic, payload, retain, properties } = say.clone();
                Outgoing::Publish(sent, Box::new(Message { topic, payload: payload.into(), retain, properties }))
            })
            .collect();
        client.send(packets).await.expect("sent");
        while taken < sent {
            if let Incoming::Taken(_, result) = client.next().await.expect("an answer") {
                result.expect("taken");
                taken += 1;
            }
        }
    }
    client.send([Outgoing::Disconnect]).await.expect("sent");
}

/// Publishes with QoS 2, one after another, and waits until the broker has it all.
pub async fn publish_once(port: u16, all: impl IntoIterator<Item = Say>) {
    use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
    let id = format!("publisher-{}", fastrand::u64(..));
    let (client, mut events) = AsyncClient::new(MqttOptions::new(id, "127.0.0.1", port), 8);
    for say in all {
        client.publish(say.topic, QoS::ExactlyOnce, say.retain, say.payload).await.expect("queued");
        while !matches!(events.poll().await.expect("a broker"), Event::Incoming(Packet::PubComp(_))) {}
    }
}

/// Who has subscribed to a topic, with QoS 1.
pub struct Subscriber(Client<TcpStream>);

impl Subscriber {
    pub async fn to(port: u16, filter: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a broker");
        let connect = Connect {
            client_id: &format!("subscriber-{}", fastrand::u64(..)),
            login: None,
            session: None,
            keep_alive: 600,
            in_flight: 100,
            max_payload: 1 << 20,
        };
        let (mut client, _) = Client::connect(stream, Version::V5, connect).await.expect("a connection");
        let subscription = Subscription { filter: filter.to_owned(), qos: Qos::AtLeastOnce };
        client.send([Outgoing::Subscribe(1, vec![subscription])]).await.expect("sent");
        let mut this = Self(client);
        while !matches!(this.packet().await, Incoming::Subscribed(..)) {}
        this
    }

    async fn packet(&mut self) -> Incoming {
        tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time").expect("a packet")
    }

    /// The next message.
    pub async fn next(&mut self) -> Published {
        loop {
            if let Incoming::Message(message) = self.packet().await {
                if let Receipt::Acknowledge(id) = message.receipt {
                    self.0.send([Outgoing::Acknowledge(id)]).await.expect("sent");
                }
                return message;
            }
        }
    }
}

/// A TCP proxy before a broker that keeps back what the operator says, or cuts connections, when it is told to.
pub struct Wire {
    pub port: u16,
    open: Arc<AtomicUsize>,
    mute: watch::Sender<bool>,
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Wire {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let own = listener.local_addr().expect("know the port").port();
        let ((mute, muted), (cut, cuts)) = (watch::channel(false), watch::channel(()));
        let open = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (muted, mut cuts) = (muted.clone(), cuts.clone());
                cuts.mark_unchanged();
                count.fetch_add(1, Ordering::SeqCst);
                let count = Arc::clone(&count);
                pumps.spawn(async move {
                    tokio::select! {
                        () = pump(near, far, muted) => {}
                        _ = cuts.changed() => {}
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port: own, open, mute, cut, task }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// From now on the broker hears nothing of the operator, which hears the broker; or again it does, on connections that are new.
    pub fn mute(&self, mute: bool) {
        self.mute.send_replace(mute);
    }

    /// Ends all connections that there are.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(near: TcpStream, far: TcpStream, mut muted: watch::Receiver<bool>) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let up = async {
        let mute = async { muted.wait_for(|muted| *muted).await.map(drop) };
        tokio::select! {
            _ = copy(&mut from_near, &mut to_far) => {}
            // What was muted once is dead: half of a packet may be missing.
            _ = mute => drop(copy(&mut from_near, &mut sink()).await),
        }
    };
    let down = async { copy(&mut from_far, &mut to_near).await };
    tokio::select! {
        () = up => {}
        _ = down => {}
    }
}

/// How long what must not come is waited for.
pub const QUIET: Duration = Duration::from_millis(500);
