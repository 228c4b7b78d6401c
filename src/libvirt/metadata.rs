//! What applications wrote into a domain's `<metadata>`.

use std::collections::HashMap;

use roxmltree::Node;

use super::xml::{attribute, child, text};
use crate::model::{Metadata, OpenStack};

/// The beginning of the namespaces that Nova used over time.
const NOVA: &str = "http://openstack.org/xmlns/libvirt/nova/";

/// Applications keep a few names here, and a host has many domains; of more than this only the beginning is kept.
const MOST: usize = 100;
/// The same, in bytes of keys and values.
const MOST_BYTES: usize = 16 << 10;
/// Deeper elements are left out.
const DEEPEST: usize = 8;

/// What Nova says.
pub(super) fn openstack(metadata: Node<'_, '_>) -> Option<OpenStack> {
    let nova = |node: &Node<'_, '_>, name: &str| {
        node.tag_name().name() == name && node.tag_name().namespace().is_some_and(|space| space.starts_with(NOVA))
    };
    let find = |parent: Option<Node<'_, '_>>, name: &str| {
        parent.and_then(|parent| parent.children().find(|node| nova(node, name)).map(|node| node.id()))
    };
    let document = metadata.document();
    let get = |parent: Option<Node<'_, '_>>, name: &str| find(parent, name).and_then(|id| document.get_node(id));
    let instance = get(Some(metadata), "instance")?;
    let owner = get(Some(instance), "owner");
    let (user, project) = (get(owner, "user"), get(owner, "project"));
    Some(OpenStack {
        instance_name: text(get(Some(instance), "name")).unwrap_or_default(),
        instance_id: text(metadata.parent().and_then(|domain| child(domain, "uuid"))).unwrap_or_default(),
        flavor_name: attribute(get(Some(instance), "flavor"), "name"),
        user_name: text(user).unwrap_or_default(),
        user_id: attribute(user, "uuid"),
        project_name: text(project).unwrap_or_default(),
        project_id: attribute(project, "uuid"),
    })
}

/// Each text and attribute, with its way through the elements as its key: `nova:instance/nova:flavor@name`. Among elements of
/// one name the second is `[2]`.
pub(super) fn all(metadata: Node<'_, '_>) -> Box<[Metadata]> {
    let mut entries = Entries::default();
    entries.below(metadata, "", 0);
    entries.list.into()
}

#[derive(Default)]
struct Entries {
    list: Vec<Metadata>,
    bytes: usize,
}

impl Entries {
    fn below(&mut self, parent: Node<'_, '_>, way: &str, depth: usize) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for element in parent.children().filter(Node::is_element) {
            let name = name(element);
            let number = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
            let number = if *number > 1 { format!("[{number}]") } else { String::new() };
            let slash = if way.is_empty() { "" } else { "/" };
            let key = format!("{way}{slash}{name}{number}");
            for attribute in element.attributes() {
                self.add(format!("{key}@{}", attribute.name()), attribute.value());
            }
            if let Some(text) = element.text().map(str::trim).filter(|text| !text.is_empty()) {
                self.add(key.clone(), text);
            }
            if depth < DEEPEST {
                self.below(element, &key, depth + 1);
            }
        }
    }

    fn add(&mut self, key: String, value: &str) {
        self.bytes += key.len() + value.len();
        if self.list.len() < MOST && self.bytes <= MOST_BYTES {
            self.list.push(Metadata { key: key.into(), value: value.into() });
        }
    }
}

/// With the prefix that the XML itself gives its namespace.
fn name(element: Node<'_, '_>) -> String {
    let tag = element.tag_name();
    match tag.namespace().and_then(|space| element.lookup_prefix(space)) {
        Some(prefix) => format!("{prefix}:{}", tag.name()),
        None => tag.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;

    fn of(inner: &str) -> Vec<(String, String)> {
        let xml = format!("<metadata>{inner}</metadata>");
        let document = Document::parse(&xml).expect("well-formed");
        all(document.root_element()).iter().map(|it| (it.key.to_string(), it.value.to_string())).collect()
    }

    #[test]
    fn texts_and_attributes_are_found_by_their_way() {
        let entries = of(r#"<n:instance xmlns:n="urn:n"><n:flavor name="m1.small"><n:memory> 2048
            </n:memory></n:flavor><n:port uuid="a"/><n:port uuid="b">x</n:port></n:instance>
            <app xmlns="urn:default"><tier>gold</tier></app><n xmlns:v="urn:v" v:weight="3"/>"#);
        let expected = [
            ("n:instance/n:flavor@name", "m1.small"),
            ("n:instance/n:flavor/n:memory", "2048"),
            ("n:instance/n:port@uuid", "a"),
            ("n:instance/n:port[2]@uuid", "b"),
            ("n:instance/n:port[2]", "x"),
            ("app/tier", "gold"),
            ("n@weight", "3"),
        ];
        assert_eq!(entries, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn of_very_much_the_beginning_is_kept() {
        let many: String = (0..1000).map(|n| format!("<a>{n}</a>")).collect();
        assert_eq!(of(&many).len(), MOST);
        let long = format!("<a>1</a><b>{}</b><c>3</c>", "x".repeat(MOST_BYTES));
        assert_eq!(of(&long), [("a".to_owned(), "1".to_owned())]);
        let deep = format!("{}<a>x</a>{}", "<a y='1'>".repeat(20), "</a>".repeat(20));
        assert_eq!(of(&deep).len(), DEEPEST + 1);
        assert!(of("").is_empty());
    }
}
