//! The fields of Kubernetes' own kinds, as `src/rule/cel/kinds.txt` holds them.

use std::collections::BTreeMap;

use k8s_openapi::{
    Resource,
    api::{apps, autoscaling, batch, coordination, core, discovery, networking, policy, rbac, storage},
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The kinds that rules commonly watch; of others nothing is checked.
fn roots(generator: &mut SchemaGenerator) -> Vec<(String, String)> {
    let mut roots = Vec::new();
    macro_rules! add {
        ($($kind:ty),* $(,)?) => { $(roots.push(root::<$kind>(generator));)* };
    }
    add!(
        core::v1::Pod,
        core::v1::Node,
        core::v1::Namespace,
        core::v1::Service,
        core::v1::ConfigMap,
        core::v1::Secret,
        core::v1::ServiceAccount,
        core::v1::PersistentVolume,
        core::v1::PersistentVolumeClaim,
        core::v1::ResourceQuota,
        apps::v1::Deployment,
        apps::v1::ReplicaSet,
        apps::v1::StatefulSet,
        apps::v1::DaemonSet,
        batch::v1::Job,
        batch::v1::CronJob,
        autoscaling::v2::HorizontalPodAutoscaler,
        policy::v1::PodDisruptionBudget,
        networking::v1::Ingress,
        networking::v1::NetworkPolicy,
        discovery::v1::EndpointSlice,
        coordination::v1::Lease,
        rbac::v1::Role,
        rbac::v1::RoleBinding,
        rbac::v1::ClusterRole,
        rbac::v1::ClusterRoleBinding,
        storage::v1::StorageClass,
    );
    roots
}

fn root<K: Resource + JsonSchema>(generator: &mut SchemaGenerator) -> (String, String) {
    let schema = generator.subschema_for::<K>();
    (format!("{} {}", K::API_VERSION, K::KIND), reference(schema.as_value()).expect("kinds are referred to"))
}

/// The file: a line for each kind with the number of its type, an empty line, a line for each type.
pub fn text() -> String {
    let mut generator = SchemaSettings::draft07().into_generator();
    let roots = roots(&mut generator);
    let definitions = generator.take_definitions(true);
    let mut types = Types { definitions, numbers: BTreeMap::new(), lines: Vec::new() };
    let mut text = String::new();
    for (kind, name) in roots {
        let number = types.number(&name).expect("a kind has fields");
        // What events carry of a Secret instead of its content.
        if kind == "v1 Secret" {
            types.lines[number].push_str(" contentHash");
        }
        text += &format!("{kind} {number}\n");
    }
    text + "\n" + &types.lines.join("\n") + "\n"
}

struct Types {
    definitions: Map<String, Value>,
    numbers: BTreeMap<String, usize>,
    lines: Vec<String>,
}

impl Types {
    /// The number of a type; none when it has no fields of its own.
    fn number(&mut self, name: &str) -> Option<usize> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let properties = self.definitions.get(name)?.get("properties")?.as_object()?.clone();
        let number = self.lines.len();
        self.numbers.insert(name.to_owned(), number);
        self.lines.push(String::new());
        let fields: Vec<String> = properties
            .iter()
            .map(|(field, schema)| match self.type_of(schema) {
                Some(type_) => format!("{field}:{type_}"),
                None => field.clone(),
            })
            .collect();
        self.lines[number] = fields.join(" ");
        Some(number)
    }

    fn type_of(&mut self, schema: &Value) -> Option<String> {
        let of = |sign: &str, number: usize| format!("{sign}{number}");
        if let Some(name) = reference(schema) {
            return self.number(&name).map(|number| of("", number));
        }
        for (key, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(name) = schema.get(key).and_then(reference) {
                return self.number(&name).map(|number| of(sign, number));
            }
        }
        None
    }
}

/// The name of the definition that a schema refers to.
fn reference(schema: &Value) -> Option<String> {
    let direct = schema.get("$ref").and_then(Value::as_str);
    let within = ["allOf", "anyOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let found = direct.or_else(|| within.filter_map(|one| one.get("$ref")?.as_str()).next())?;
    found.rsplit('/').next().map(str::to_owned)
}
