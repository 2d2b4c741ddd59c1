//! RabbitMQ: a node of the tests' own, with its data, its ports and its cookie in a folder, and what tests publish there.

use std::process::Command;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{net::TcpStream, sync::OnceCell};

use super::servers::{Authority, program};
use crate::support::{
    eventually,
    http::free_port,
    process::{Process, Workspace},
};

/// How long a node may take to start: 8 s on a quiet machine.
const START: std::time::Duration = std::time::Duration::from_secs(120);
/// The only user.
pub const USER: (&str, &str) = ("signal", "s3cret-word");

/// A node, for all tests.
pub struct Rabbit {
    pub port: u16,
    /// Where it speaks TLS, as `rabbitmq.shop.svc`, with those who show a certificate of [`Rabbit::authority`].
    pub tls_port: u16,
    pub authority: Authority,
    _workspace: Workspace,
    /// Erlang's register of names, which would stay behind if the node started it.
    _names: Process,
    _node: Process,
}

/// The node. Each test has queues of its own.
pub async fn shared() -> &'static Rabbit {
    static NODE: OnceCell<Rabbit> = OnceCell::const_new();
    NODE.get_or_init(Rabbit::start).await
}

impl Rabbit {
    async fn start() -> Self {
        let workspace = Workspace::new("rabbitmq");
        let [port, tls_port, names_port, dist_port] = [(); 4].map(|()| free_port());
        let (username, password) = USER;
        let authority = Authority::new();
        let (certificate, key) = authority.sign("rabbitmq.shop.svc");
        for (name, content) in [("ca.pem", authority.pem()), ("cert.pem", certificate), ("key.pem", key)] {
            workspace.write(name, content);
        }
        let folder = workspace.path().display();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = {username}\ndefault_pass = {password}\n\
             log.console = true\nlog.file = false\nvm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 50MB\n\
             listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.cacertfile = {folder}/ca.pem\nssl_options.certfile = {folder}/cert.pem\n\
             ssl_options.keyfile = {folder}/key.pem\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        );
        let (config, plugins) = (workspace.write("rabbitmq.conf", config), workspace.write("plugins", "[]."));
        let server = program("rabbitmq");
        let mut names = Command::new("epmd");
        names.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
        let names = workspace.spawn("epmd", names);
        let mut node = Command::new(server);
        let folder = workspace.path();
        node.env("HOME", folder)
            .env("ERL_EPMD_PORT", names_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("test{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("node"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-start_epmd false")
            // The script becomes the node, instead of waiting for it as a process of its own.
            .env("RUNNING_UNDER_SYSTEMD", "1");
        let node = workspace.spawn("node", node);
        eventually("rabbitmq listens", START, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { port, tls_port, authority, _workspace: workspace, _names: names, _node: node }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A channel on which what is published is confirmed, and the connection that it is on.
    pub async fn channel(&self) -> (Connection, Channel) {
        let uri = format!("amqp://{}:{}@127.0.0.1:{}/%2f", USER.0, USER.1, self.port);
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        (connection, channel)
    }
}

/// Makes a durable queue with these arguments.
pub async fn queue(channel: &Channel, name: &str, arguments: &[(&str, &str)]) {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), AMQPValue::LongString((*value).into()));
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, table).await.expect("a queue");
}

/// Publishes a message that survives a restart, and waits until the broker has it.
pub async fn publish(channel: &Channel, (exchange, key): (&str, &str), body: &[u8], properties: BasicProperties) {
    let properties = properties.with_delivery_mode(2);
    let sent = channel.basic_publish(exchange.into(), key.into(), BasicPublishOptions::default(), body, properties);
    sent.await.expect("sent").await.expect("confirmed");
}

/// Takes one message out of a queue; nothing when it is empty.
pub async fn get(channel: &Channel, queue: &str) -> Option<Vec<u8>> {
    let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("an answer");
    got.map(|message| message.delivery.data)
}
