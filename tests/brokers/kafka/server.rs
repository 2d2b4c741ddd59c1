//! A real Apache Kafka on loopback: one node in KRaft mode. It takes 4 s of processor time to start.

use std::{
    process::{Command, Output},
    sync::Mutex,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _, StreamConsumer},
    message::{Header, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    brokers::servers::{Authority, program},
    support::{
        eventually,
        http::free_port,
        process::{Process, Workspace},
    },
};

/// Starting may have to wait for a busy machine.
const START: Duration = Duration::from_secs(120);
/// How long a request may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(30);

pub const USER: &str = "signalbox";
pub const PASSWORD: &str = "the-broker-s3cret";

/// What keeps a key from nobody.
const STORE: &str = "changeit";

/// A running broker. Dropping it leaves nothing behind.
pub struct Kafka {
    process: Mutex<Option<Process>>,
    workspace: Workspace,
    jars: String,
    plain: u16,
    login: u16,
    elsewhere: u16,
    tls: u16,
    scram: u16,
    stray: u16,
    /// Whoever signed its certificates, and those of clients that it takes.
    pub authority: Authority,
}

/// A record to send.
#[derive(Clone, Copy, Default)]
pub struct Sent<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// The broker that the tests of this binary share: each has topics of its own.
pub async fn shared() -> &'static Kafka {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    SHARED.get_or_init(Kafka::start).await
}

impl Kafka {
    /// Starts one, without topics.
    pub async fn start() -> Self {
        let [plain, login, elsewhere, controller, tls, scram, stray] = [(); 7].map(|()| free_port());
        let workspace = Workspace::new("kafka");
        let folder = workspace.path().display().to_string();
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAIN\n\
             listeners=PLAIN://127.0.0.1:{plain},LOGIN://127.0.0.1:{login},\
             ELSEWHERE://127.0.0.1:{elsewhere},TLS://127.0.0.1:{tls},SCRAM://127.0.0.1:{scram},\
             STRAY://127.0.0.1:{stray},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAIN://127.0.0.1:{plain},LOGIN://127.0.0.1:{login},\
             ELSEWHERE://169.254.169.254:80,TLS://127.0.0.1:{tls},SCRAM://127.0.0.1:{scram},STRAY://127.0.0.1:{stray}\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,LOGIN:SASL_PLAINTEXT,ELSEWHERE:PLAINTEXT,\
             TLS:SSL,SCRAM:SASL_SSL,STRAY:SSL,CONTROLLER:PLAINTEXT\n\
             listener.name.login.sasl.enabled.mechanisms=PLAIN\n\
             listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.scram.scram-sha-256.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             listener.name.scram.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PKCS12\n\
             ssl.keystore.location={folder}/ours.p12\n\
             ssl.keystore.password={STORE}\n\
             ssl.truststore.type=PEM\n\
             ssl.truststore.location={folder}/ca.pem\n\
             listener.name.tls.ssl.client.auth=required\n\
             listener.name.stray.ssl.keystore.type=PKCS12\n\
             listener.name.stray.ssl.keystore.location={folder}/stray.p12\n\
             listener.name.stray.ssl.keystore.password={STORE}\n\
             listener.name.login.plain.sasl.jaas.config=\
             org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
             log.dirs={folder}/data\n\
             auto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\n\
             offsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             num.network.threads=1\n\
             num.io.threads=2\n"
        );
        workspace.write("server.properties", properties);
        let authority = Authority::new();
        workspace.write("ca.pem", authority.pem());
        keep(&workspace, "ours", &authority.sign("127.0.0.1"));
        keep(&workspace, "stray", &authority.sign("kafka.shop.svc"));
        let (process, jars) = (Mutex::new(None), program("kafka"));
        let kafka = Self { process, workspace, jars, plain, login, elsewhere, tls, scram, stray, authority };
        kafka.format();
        kafka.start_again().await;
        kafka
    }

    /// Makes the folder of its data.
    fn format(&self) {
        let mut command = self.java();
        command.args(["kafka.tools.StorageTool", "format", "--cluster-id", "4L6g3nShT-eMCtK--X86sw", "--config"]);
        command.arg(self.workspace.path().join("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.args(["--add-scram", &format!("{mechanism}=[name={USER},password={PASSWORD}]")]);
        }
        told(&command.output().expect("run java"), "format the data of Kafka");
    }

    /// A Java that starts fast.
    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &format!("{}/*", self.jars)]);
        command
    }

    /// Starts it on the data that it has, and waits until it answers.
    pub async fn start_again(&self) {
        let mut command = self.java();
        command.arg("kafka.Kafka").arg(self.workspace.path().join("server.properties"));
        let process = self.workspace.spawn("kafka", command);
        *self.process.lock().expect("not poisoned") = Some(process);
        let client: BaseConsumer = self.config().create().expect("a client");
        eventually("Kafka answers", START, async || {
            let ended = self.process.lock().expect("not poisoned").as_mut().and_then(Process::ended);
            assert!(ended.is_none(), "Kafka ended: {ended:?}");
            tokio::task::block_in_place(|| client.fetch_metadata(None, Duration::from_millis(500))).ok()
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&self) {
        drop(self.process.lock().expect("not poisoned").take());
    }

    /// Where everybody may come in.
    pub fn broker(&self) -> String {
        format!("127.0.0.1:{}", self.plain)
    }

    /// Where [`USER`] logs in.
    pub fn login(&self) -> String {
        format!("127.0.0.1:{}", self.login)
    }

    /// Where clients are told to go on at an address of a cloud's metadata service.
    pub fn elsewhere(&self) -> String {
        format!("127.0.0.1:{}", self.elsewhere)
    }

    /// Where everybody may come in by TLS who shows a certificate.
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// Where [`USER`] logs in with SCRAM, by TLS.
    pub fn scram(&self) -> String {
        format!("127.0.0.1:{}", self.scram)
    }

    /// Where a certificate is shown that is for another host.
    pub fn stray(&self) -> String {
        format!("127.0.0.1:{}", self.stray)
    }

    /// A client's configuration.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    /// Makes a topic.
    pub async fn topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let made = self.admin().create_topics([&topic], &options).await.expect("ask for a topic");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Takes a topic away, and waits until it is gone.
    pub async fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let gone = self.admin().delete_topics(&[name], &options).await.expect("ask for it");
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    }

    /// Sends records in their order, and waits until the broker has them.
    pub async fn send(&self, topic: &str, records: &[Sent<'_>]) {
        self.send_by(&mut self.config(), topic, records).await;
    }

    /// The same by a producer of this configuration.
    pub async fn send_by(&self, config: &mut ClientConfig, topic: &str, records: &[Sent<'_>]) {
        let producer: FutureProducer = config.set("linger.ms", "0").create().expect("a client");
        let mut sent = Vec::new();
        for record in records {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: *value }));
            let mut one = FutureRecord::<[u8], [u8]>::to(topic).partition(record.partition).headers(headers);
            (one.key, one.payload) = (record.key, record.value);
            sent.push(producer.send_result(one).map_err(|(error, _)| error).expect("send"));
        }
        for one in sent {
            let delivered = one.await.expect("the producer lives");
            delivered.map_err(|(error, _)| error).expect("the broker takes it");
        }
        producer.flush(ANSWER).expect("nothing is left");
    }

    /// The same of texts, into partition 0.
    pub async fn tell(&self, topic: &str, texts: &[&str]) {
        let mut records = Vec::new();
        for text in texts {
            records.push(Sent { value: Some(text.as_bytes()), ..Sent::default() });
        }
        self.send(topic, &records).await;
    }

    /// The first records of a topic with so many partitions, once there are so many.
    pub async fn records(&self, topic: &str, partitions: i32, count: usize) -> Vec<OwnedMessage> {
        let client: StreamConsumer = self.config().set("group.id", "reader").create().expect("a client");
        let mut places = TopicPartitionList::new();
        for partition in 0..partitions {
            places.add_partition_offset(topic, partition, Offset::Beginning).expect("a place");
        }
        client.assign(&places).expect("assigned");
        let mut all = Vec::new();
        while all.len() < count {
            let record = timeout(ANSWER, client.recv()).await.expect("a record in time").expect("a record");
            all.push(record.detach());
        }
        all
    }

    /// Where a group goes on in a partition; nothing before it has begun.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let client: BaseConsumer = self.config().set("group.id", group).create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let asked = tokio::task::block_in_place(|| client.committed_offsets(list, ANSWER)).expect("an answer");
        asked.elements().first().and_then(|one| one.offset().to_raw()).filter(|offset| *offset >= 0)
    }
}

/// Keeps a certificate and its key in the form that Java reads.
fn keep(workspace: &Workspace, name: &str, (certificate, key): &(String, String)) {
    workspace.write(&format!("{name}.pem"), format!("{certificate}{key}"));
    let mut command = Command::new("openssl");
    command.current_dir(workspace.path()).args(["pkcs12", "-export", "-name", name, "-passout"]);
    command.args([&format!("pass:{STORE}"), "-in", &format!("{name}.pem"), "-out", &format!("{name}.p12")]);
    told(&command.output().expect("run openssl"), "keep a certificate");
}

fn told(output: &Output, what: &str) {
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}", said());
}
