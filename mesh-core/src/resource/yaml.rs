//! Reads manifests: YAML text of many documents into objects. Does not open files.
//!
//! Law: a text is read whole or not at all, and every fault names file, line, column and field.
//! Kinds that the mesh does not read are passed over with a notice, so that a directory of
//! Deployments and ConfigMaps can be given as it is.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::check::{Fault, check};
use super::locate::locate;
use super::{Kind, Object, ObjectRef};

/// What a text holds.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// Objects, in order. Those that name no namespace are in `default`.
    pub objects: Vec<Object>,
    /// What was passed over.
    pub notices: Vec<Problem>,
}

/// Something wrong with a text, or passed over in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file's name, as the reader was told.
    pub file: String,
    /// The document in it, from 1.
    pub document: usize,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The field: `spec.ports[0].port`; empty where the whole document is meant.
    pub field: String,
    /// What is wrong.
    pub fault: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, document, line, column, field, fault, remedy } = self;
        write!(f, "{file}:{line}:{column}: document {document}: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        write!(f, "{fault}; {remedy}")
    }
}

/// Reads every document of `text`. `file` is for messages.
///
/// # Errors
/// Every problem that was found, in order; then nothing of the text is to be used.
pub fn read(file: &str, text: &str) -> Result<Manifest, Vec<Problem>> {
    let mut manifest = Manifest::default();
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, (first_line, text)) in documents(text).into_iter().enumerate() {
        let document = Document { file, number: index + 1, first_line, text };
        match document.read(&mut manifest) {
            Ok(objects) => {
                problems.extend(document.faults(&objects, &mut seen));
                let objects = objects.into_iter().map(|(_, object)| object);
                manifest.objects.extend(objects.map(with_namespace));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(manifest) } else { Err(problems) }
}

/// A fault of an object that was read from `text`, with its place there.
pub fn place(file: &str, text: &str, object: &ObjectRef, fault: &Fault) -> Problem {
    let (mut first, mut found) = (None, None);
    for (index, (first_line, text)) in documents(text).into_iter().enumerate() {
        let document = Document { file, number: index + 1, first_line, text };
        let objects = document.read(&mut Manifest::default()).unwrap_or_default();
        let path = objects
            .into_iter()
            .find(|(_, read)| with_namespace(read.clone()).object_ref() == *object)
            .map(|(path, _)| path);
        first.get_or_insert_with(|| document.clone());
        if let Some(path) = path {
            found = Some((document, path));
            break;
        }
    }
    let nowhere = || Document { file, number: 1, first_line: 0, text: "" };
    let (document, path) = found.unwrap_or_else(|| (first.unwrap_or_else(nowhere), String::new()));
    document.problem(
        format!("{path}{}", fault.field),
        format!("{object}: {}", fault.fault),
        fault.remedy,
    )
}

/// Splits a text at its `---` lines: the line, from 0, that each document starts at, and its text.
pub(crate) fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r', '#']));
        if is_marker {
            documents.push((start_line, &text[start..at]));
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents.retain(|(_, text)| {
        text.lines()
            .map(|line| line.strip_prefix("---").unwrap_or(line).trim())
            .any(|line| !line.is_empty() && !line.starts_with('#'))
    });
    documents
}

#[derive(Clone)]
struct Document<'a> {
    file: &'a str,
    number: usize,
    /// From 0.
    first_line: usize,
    text: &'a str,
}

/// The part of a document that says what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
struct ListHead {
    #[serde(default)]
    items: Vec<Head>,
}

impl Document<'_> {
    /// The objects of this document, each with the path of its fields: empty, or `items[N].`.
    fn read(&self, manifest: &mut Manifest) -> Result<Vec<(String, Object)>, Problem> {
        let head: Head = self.parse()?;
        if head.kind == "List" && head.api_version == "v1" {
            let list: ListHead = self.parse()?;
            let path = |index| format!("items[{index}].");
            let kinds: Vec<_> = list
                .items
                .iter()
                .enumerate()
                .map(|(index, head)| self.kind(&path(index), head, manifest))
                .collect::<Result<_, _>>()?;
            let objects = self.parse_objects(Shape::List(kinds))?;
            let with_path = |(index, object)| (path(index), object);
            return Ok(objects.into_iter().map(with_path).collect());
        }
        let Some(kind) = self.kind("", &head, manifest)? else {
            return Ok(Vec::new());
        };
        let objects = self.parse_objects(Shape::Single(kind))?;
        let with_path = |(_, object)| (String::new(), object);
        Ok(objects.into_iter().map(with_path).collect())
    }

    /// The kind to read. `None`, with a notice, where the mesh does not read it.
    fn kind(
        &self,
        path: &str,
        head: &Head,
        manifest: &mut Manifest,
    ) -> Result<Option<Kind>, Problem> {
        let Head { api_version, kind } = head;
        for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
            if value.is_empty() {
                let remedy = "say which object this is, or keep the file elsewhere";
                return Err(self.problem(format!("{path}{name}"), "is missing", remedy));
            }
        }
        if let Some(known) = Kind::named(kind).find(|known| known.reads(api_version)) {
            return Ok(Some(known));
        }
        let (fault, remedy) = match Kind::named(kind).find(|k| k.group() == group(api_version)) {
            Some(known) => (
                format!("{kind} of version {api_version} is not read: ignored"),
                format!("use {}", known.api_version()),
            ),
            _ => (
                format!("{api_version} {kind} is not an object of the mesh: ignored"),
                "nothing needs to be done".to_string(),
            ),
        };
        manifest.notices.push(self.problem(format!("{path}kind"), fault, remedy));
        Ok(None)
    }

    fn parse<T: de::DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_yaml_ng::from_str(self.text).map_err(|error| self.yaml_problem(&error))
    }

    /// Reads objects strictly: fields that Kubernetes' own types do not have are faults as well.
    fn parse_objects(&self, shape: Shape) -> Result<Vec<(usize, Object)>, Problem> {
        let mut unknown = None;
        let mut note = |path: serde_ignored::Path<'_>| {
            let path = field_path(&path.to_string());
            if !is_passed_over(&path) {
                unknown.get_or_insert(path);
            }
        };
        let document = serde_yaml_ng::Deserializer::from_str(self.text);
        let objects = shape
            .deserialize(serde_ignored::Deserializer::new(document, &mut note))
            .map_err(|error| self.yaml_problem(&error))?;
        match unknown {
            Some(path) => {
                let remedy = "correct its name or remove it";
                Err(self.problem(path, "is not a field of this object", remedy))
            }
            None => Ok(objects),
        }
    }

    /// The parser's own error. Its place is exact; its path is in its text.
    fn yaml_problem(&self, error: &serde_yaml_ng::Error) -> Problem {
        let text = error.to_string();
        let (line, column) =
            error.location().map_or((1, 1), |place| (place.line(), place.column()));
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let is_path = |text: &str| !text.contains([' ', '`']);
        let (field, fault) =
            text.split_once(": ").filter(|(path, _)| is_path(path)).unwrap_or(("", text));
        Problem {
            file: self.file.to_string(),
            document: self.number,
            line: self.first_line + line,
            column,
            field: field.to_string(),
            fault: fault.to_string(),
            remedy: "correct it; nothing of this file is used until then".to_string(),
        }
    }

    fn faults(&self, objects: &[(String, Object)], seen: &mut BTreeSet<ObjectRef>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (path, object) in objects {
            for fault in check(object) {
                let field = format!("{path}{}", fault.field);
                problems.push(self.problem(field, fault.fault, fault.remedy));
            }
            let name = with_namespace(object.clone()).object_ref();
            if !seen.insert(name.clone()) {
                let fault = format!("{name} stands twice in this file");
                let field = format!("{path}metadata.name");
                problems.push(self.problem(field, fault, "keep one of them"));
            }
        }
        problems
    }

    fn problem(
        &self,
        field: String,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        let (line, column) = locate(self.text, &field);
        Problem {
            file: self.file.to_string(),
            document: self.number,
            line: self.first_line + line,
            column,
            field,
            fault: fault.into(),
            remedy: remedy.into(),
        }
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// serde_ignored's `items.0.spec.?.x` as `items[0].spec.x`.
fn field_path(path: &str) -> String {
    let mut field = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            field.push_str(&format!("[{part}]"));
        } else {
            field.push_str(if field.is_empty() { "" } else { "." });
            field.push_str(part);
        }
    }
    field
}

/// What kube's derived types do not keep: the head, and the status that a cluster wrote.
fn is_passed_over(path: &str) -> bool {
    let path = path
        .strip_prefix("items[")
        .and_then(|rest| rest.split_once("]."))
        .map_or(path, |(_, path)| path);
    let root = path.split(['.', '[']).next().unwrap_or_default();
    matches!(root, "apiVersion" | "kind" | "status")
}

fn with_namespace(mut object: Object) -> Object {
    if object.kind().is_namespaced() && object.meta().namespace.is_none() {
        object.meta_mut().namespace = Some("default".to_string());
    }
    object
}

/// What a document is to be read as.
enum Shape {
    Single(Kind),
    /// Of each item; those of no kind are passed over.
    List(Vec<Option<Kind>>),
}

impl<'de> DeserializeSeed<'de> for Shape {
    /// Objects, with their index in the list.
    type Value = Vec<(usize, Object)>;

    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<Self::Value, D::Error> {
        match self {
            Self::Single(kind) => Ok(vec![(0, Object::deserialize(kind, document)?)]),
            Self::List(kinds) => document.deserialize_map(ListVisitor(kinds)),
        }
    }
}

/// Visits a `List`, then its `items`.
struct ListVisitor(Vec<Option<Kind>>);

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<(usize, Object)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(name) = list.next_key::<String>()? {
            if name == "items" {
                objects = list.next_value_seed(Items(&self.0))?;
            } else {
                list.next_value::<serde_yaml_ng::Value>()?;
            }
        }
        Ok(objects)
    }
}

struct Items<'a>(&'a [Option<Kind>]);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<(usize, Object)>;

    fn deserialize<D: Deserializer<'de>>(self, items: D) -> Result<Self::Value, D::Error> {
        items.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<(usize, Object)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        for (index, kind) in self.0.iter().enumerate() {
            match kind {
                Some(kind) => {
                    let object = items.next_element_seed(Item(*kind))?;
                    objects.extend(object.map(|object| (index, object)));
                }
                None => {
                    items.next_element::<serde_yaml_ng::Value>()?;
                }
            }
        }
        Ok(objects)
    }
}

struct Item(Kind);

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, item: D) -> Result<Object, D::Error> {
        Object::deserialize(self.0, item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let lines = |problems: &[Problem]| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        };
        match read("mesh.yaml", text) {
            Ok(manifest) => {
                format!("{} objects\n{}", manifest.objects.len(), lines(&manifest.notices))
            }
            Err(problems) => lines(&problems),
        }
    }

    #[test]
    fn documents_and_lists_are_read_in_order() {
        let manifest = read(
            "mesh.yaml",
            "\
# Comment alone.
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, targetPort: http}]}
--- # two
apiVersion: v1
kind: List
metadata: {resourceVersion: \"\"}
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: c}
- apiVersion: workload.weft.sh/v1alpha1
  kind: Workload
  metadata: {name: web-1}
  spec: {addresses: [10.0.0.1], service: web, ports: [{name: http, port: 8080}], proxy: {}}
- apiVersion: policy.linkerd.io/v1beta1
  kind: Server
  metadata: {name: web, namespace: shop}
  spec: {podSelector: {}, port: http, proxyProtocol: HTTP/1}
---
",
        )
        .unwrap();
        let names: Vec<_> =
            manifest.objects.iter().map(|object| object.object_ref().to_string()).collect();
        assert_eq!(names, ["Service/shop/web", "Workload/default/web-1", "Server/shop/web"]);
        insta::assert_snapshot!(manifest.notices[0], @"mesh.yaml:13:3: document 2: items[0].kind: v1 ConfigMap is not an object of the mesh: ignored; nothing needs to be done");
    }

    #[test]
    fn every_fault_names_its_place_and_a_remedy() {
        insta::assert_snapshot!(problems("\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selektor: {app: web}
  ports:
  - port: 80
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  name: web
spec:
  podSelector: {}
  port: 80
  proxyProtocol: HTTP/3
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  name: Web
spec:
  port: 70000
  accessPolicy: allow
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata:
  name: net
spec:
  networks:
  - cidr: 10.0.0.0/8
    except:
    - 10.1.0.0/16
    - 11.0.0.0/16
---
metadata: {name: x}
---
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: a}
spec:
  addresses: [10.0.0.300]
  port: 1
"), @r#"
mesh.yaml:6:3: document 1: spec.selektor: is not a field of this object; correct its name or remove it
mesh.yaml:17:18: document 2: spec.proxyProtocol: unknown variant `HTTP/3`, expected one of `unknown`, `HTTP/1`, `HTTP/2`, `gRPC`, `opaque`, `TLS`; correct it; nothing of this file is used until then
mesh.yaml:22:3: document 3: metadata.name: "Web" is not valid; use lower-case letters, digits, '-' and '.', such as web-1
mesh.yaml:23:1: document 3: spec: needs either podSelector or externalWorkloadSelector; give one of them; `podSelector: {}` selects all
mesh.yaml:24:3: document 3: spec.port: "70000" is not valid; use a port from 1 to 65535
mesh.yaml:25:3: document 3: spec.accessPolicy: "allow" is not a policy; use all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny or audit; use one of these
mesh.yaml:36:5: document 4: spec.networks[0].except[1]: "11.0.0.0/16" is not a part of "10.0.0.0/8"; except only parts of the network
mesh.yaml:38:1: document 5: apiVersion: is missing; say which object this is, or keep the file elsewhere
mesh.yaml:45:3: document 6: spec: unknown field `port`, expected one of `addresses`, `serviceAccount`, `service`, `ports`, `proxy`, `ready`, `labels`; correct it; nothing of this file is used until then
"#);
    }

    #[test]
    fn text_that_is_no_yaml_is_a_fault_and_not_an_end() {
        insta::assert_snapshot!(problems("kind: [\n---\nkind: Service\n"), @r#"
mesh.yaml:1:7: document 1: kind: invalid type: sequence, expected a string; correct it; nothing of this file is used until then
mesh.yaml:3:1: document 2: apiVersion: is missing; say which object this is, or keep the file elsewhere
"#);
        insta::assert_snapshot!(problems("kind: Service\napiVersion: v1\nmetadata: {name: a\n"), @"mesh.yaml:4:1: document 1: did not find expected ',' or '}' at line 4 column 1, while parsing a flow mapping; correct it; nothing of this file is used until then");
        assert_eq!(problems(""), "0 objects\n");
    }

    #[test]
    fn kinds_of_others_are_passed_over() {
        insta::assert_snapshot!(problems("\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {whatever: 1}
---
apiVersion: policy.linkerd.io/v9
kind: Server
---
apiVersion: serving.knative.dev/v1
kind: Service
"), @r#"
0 objects
mesh.yaml:2:1: document 1: kind: apps/v1 Deployment is not an object of the mesh: ignored; nothing needs to be done
mesh.yaml:7:1: document 2: kind: Server of version policy.linkerd.io/v9 is not read: ignored; use policy.linkerd.io/v1beta3
mesh.yaml:10:1: document 3: kind: serving.knative.dev/v1 Service is not an object of the mesh: ignored; nothing needs to be done
"#);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(kind: (List|Server|Service)\n|apiVersion: v1\n|items:\n|- |[a-z:{}\\[\\]&*'\"\n -]){0,40}") {
            let _ = read("mesh.yaml", &text);
        }
    }
}
