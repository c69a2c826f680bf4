//! Types and fields as the table holds them: borrowed text, a few bytes of flags, rare facts read on demand.

/// A handle for a [`Type`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u32);

impl TypeId {
    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("the table has a few thousand types"))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An object type, with inlined Go structs flattened into it.
#[derive(Debug)]
pub struct Type {
    /// OpenAPI name without `io.k8s.`, such as `api.core.v1.Pod`.
    pub id: &'static str,
    /// Go's spelling, such as `v1.Pod`, which decoding errors name.
    pub go_name: &'static str,
    /// Fields in Go's order.
    pub fields: Vec<Field>,
    /// The places of the fields, by name.
    by_name: Vec<(&'static str, u16)>,
    /// The fields that have a declared default, or whose value may have one somewhere below.
    defaulted: Vec<u16>,
    kinds: &'static str,
    facts: &'static str,
    atomic: bool,
    protobuf: bool,
}

impl Type {
    pub(super) fn new(id: &'static str, go_name: &'static str, kinds: &'static str, facts: &'static str) -> Self {
        let atomic = fact(facts, "mt=") == Some("atomic");
        let protobuf = !facts.split('\t').any(|word| word == "nopb");
        let (fields, by_name, defaulted) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, go_name, fields, by_name, defaulted, kinds, facts, atomic, protobuf }
    }

    /// Sorts the names, once all fields are there.
    pub(super) fn index(&mut self) {
        let place = |at| u16::try_from(at).expect("a type has some hundred fields at most");
        self.by_name = self.fields.iter().enumerate().map(|(at, field)| (field.name, place(at))).collect();
        // Stable: of two fields of one name, the first one is found.
        self.by_name.sort_by_key(|(name, _)| *name);
    }

    /// Finds the fields that defaults are filled into, given the types that have such; true when there are more of them
    /// than were known.
    pub(super) fn find_defaulted(&mut self, has: impl Fn(TypeId) -> bool) -> bool {
        let leads = |field: &Field| field.default().is_some() || field.shape.innermost_type().is_some_and(&has);
        let found: Vec<u16> =
            self.by_name.iter().map(|(_, at)| *at).filter(|at| leads(&self.fields[usize::from(*at)])).collect();
        let more = found.len() > self.defaulted.len();
        self.defaulted = found;
        more
    }

    /// The fields that have a declared default or may have one below.
    pub(super) fn defaulted(&self) -> impl Iterator<Item = &Field> {
        self.defaulted.iter().map(|at| &self.fields[usize::from(*at)])
    }

    /// Defaults are declared on a field of this type, or below.
    pub(super) fn is_defaulted(&self) -> bool {
        !self.defaulted.is_empty()
    }

    /// The fields in the order of their names, each with its place among all.
    pub(super) fn by_name(&self) -> impl Iterator<Item = (&Field, usize)> {
        self.by_name.iter().map(|(_, at)| (&self.fields[usize::from(*at)], usize::from(*at)))
    }

    /// The place of the field of a JSON name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let at = self.by_name.partition_point(|(own, _)| *own < name);
        self.by_name.get(at).filter(|(own, _)| *own == name).map(|(_, place)| usize::from(*place))
    }

    /// Group, version and kind of every kind that has this type.
    pub fn kinds(&self) -> impl Iterator<Item = [&'static str; 3]> + use<> {
        self.kinds.split(',').filter(|text| !text.is_empty()).map(|text| {
            let mut parts = text.split('/');
            [(); 3].map(|()| parts.next().expect("the generator writes group/version/kind"))
        })
    }

    /// The field of a JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.place(name).map(|at| &self.fields[at])
    }

    /// Go's name without its package, such as `PodSpec`.
    pub fn struct_name(&self) -> &'static str {
        self.go_name.rsplit('.').next().unwrap_or(self.go_name)
    }

    /// True when server-side apply replaces the object as one (`x-kubernetes-map-type: atomic`).
    pub fn is_atomic(&self) -> bool {
        self.atomic
    }

    /// `x-kubernetes-unions`, as JSON text.
    pub fn unions(&self) -> Option<&'static str> {
        fact(self.facts, "un=")
    }

    /// False for types that have no protobuf form.
    pub fn has_protobuf(&self) -> bool {
        self.protobuf
    }

    /// False for types that upstream's OpenAPI documents leave out.
    pub fn in_openapi(&self) -> bool {
        !self.facts.split('\t').any(|word| word == "noapi")
    }
}

/// What a value of a field looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    /// An integer of the given Go type (`int32`, `int64`, `uint8`, ...).
    Int(&'static str),
    /// A float of the given Go type.
    Float(&'static str),
    /// Base64 text.
    Bytes,
    Quantity,
    IntOrString,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with six decimals.
    MicroTime,
    /// Go's duration text.
    Duration,
    /// The field set of server-side apply.
    FieldsV1,
    /// An embedded object of any kind (`runtime.RawExtension`).
    Raw,
    /// Any JSON.
    Json,
    /// A `JSONSchemaProps`, or a list of them.
    PropsOrArray,
    /// A `JSONSchemaProps`, or a bool.
    PropsOrBool,
    /// A `JSONSchemaProps`, or a list of strings.
    PropsOrStrings,
    /// A list; `message` when protobuf wraps it in a message of its own.
    List {
        item: Box<Shape>,
        message: bool,
    },
    /// A map with string keys.
    Map(Box<Shape>),
    /// An object of another type.
    Ref(TypeId),
}

impl Shape {
    /// The object type inside any lists and maps.
    pub fn innermost_type(&self) -> Option<TypeId> {
        match self {
            Self::Ref(id) => Some(*id),
            Self::List { item, .. } | Self::Map(item) => item.innermost_type(),
            _ => None,
        }
    }

    /// What a list or map holds.
    pub fn item(&self) -> Option<&Shape> {
        match self {
            Self::List { item, .. } | Self::Map(item) => Some(item),
            _ => None,
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self, Self::List { .. })
    }

    pub fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

impl ListType {
    fn read(word: &str) -> Self {
        match word {
            "map" => Self::Map,
            "set" => Self::Set,
            _ => Self::Atomic,
        }
    }
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    pub shape: Shape,
    pub(super) flags: Flags,
    protobuf: &'static str,
    facts: &'static str,
    asked: Asked,
}

/// The facts that walks over values ask for at every field: read once.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    default: Option<&'static str>,
    list_type: Option<ListType>,
    list_map_keys: Option<&'static str>,
    map_type: Option<&'static str>,
    patch_strategy: Option<&'static str>,
    patch_merge_key: Option<&'static str>,
    go_type: Option<&'static str>,
    inlined_in: Option<&'static str>,
}

impl Asked {
    fn read(facts: &'static str) -> Self {
        let mut asked = Self::default();
        for (key, value) in facts.split('\t').filter_map(|word| word.split_once('=')) {
            let slot = match key {
                "df" => &mut asked.default,
                "lk" => &mut asked.list_map_keys,
                "mt" => &mut asked.map_type,
                "ps" => &mut asked.patch_strategy,
                "pk" => &mut asked.patch_merge_key,
                "go" => &mut asked.go_type,
                "in" => &mut asked.inlined_in,
                "lt" => {
                    asked.list_type.get_or_insert(ListType::read(value));
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(value);
        }
        asked
    }
}

/// The one-letter facts of a field.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u8);

impl Flags {
    const REQUIRED: Self = Self(1);
    const POINTER: Self = Self(1 << 1);
    const OMIT_EMPTY: Self = Self(1 << 2);
    const OMIT_ZERO: Self = Self(1 << 3);
    const ZERO_DEFAULT: Self = Self(1 << 4);
    const ITEM_ZERO_DEFAULT: Self = Self(1 << 5);
    const LETTERS: [(char, Self); 6] = [
        ('r', Self::REQUIRED),
        ('p', Self::POINTER),
        ('o', Self::OMIT_EMPTY),
        ('z', Self::OMIT_ZERO),
        ('d', Self::ZERO_DEFAULT),
        ('e', Self::ITEM_ZERO_DEFAULT),
    ];

    pub(super) fn read(letters: &str) -> Self {
        let known = Self::LETTERS.iter().filter(|(letter, _)| letters.contains(*letter));
        Self(known.fold(0, |all, (_, flag)| all | flag.0))
    }

    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

impl Field {
    pub(super) fn new(
        name: &'static str,
        shape: Shape,
        flags: Flags,
        protobuf: &'static str,
        facts: &'static str,
    ) -> Self {
        Self { name, shape, flags, protobuf, facts, asked: Asked::read(facts) }
    }

    /// Listed as required in OpenAPI.
    pub fn is_required(&self) -> bool {
        self.flags.has(Flags::REQUIRED)
    }

    /// A pointer in Go: null and zero differ.
    pub fn is_pointer(&self) -> bool {
        self.flags.has(Flags::POINTER)
    }

    /// Go leaves the empty value out.
    pub fn omits_empty(&self) -> bool {
        self.flags.has(Flags::OMIT_EMPTY)
    }

    /// Go leaves the zero value out, for structs too.
    pub fn omits_zero(&self) -> bool {
        self.flags.has(Flags::OMIT_ZERO)
    }

    /// OpenAPI shows the zero value of the type as default.
    pub fn has_zero_default(&self) -> bool {
        self.flags.has(Flags::ZERO_DEFAULT)
    }

    /// OpenAPI shows the zero value as default of the list's or map's items.
    pub fn items_have_zero_default(&self) -> bool {
        self.flags.has(Flags::ITEM_ZERO_DEFAULT)
    }

    /// The declared default, as JSON text.
    pub fn default(&self) -> Option<&'static str> {
        self.asked.default
    }

    /// The declared values of an enumeration.
    pub fn enumeration(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fact("en=").into_iter().flat_map(|values| values.split('|'))
    }

    /// The declared values of an enumeration that the items of a list or map are.
    pub fn item_enumeration(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fact("ie=").into_iter().flat_map(|values| values.split('|'))
    }

    /// `x-kubernetes-list-type`.
    pub fn list_type(&self) -> Option<ListType> {
        self.asked.list_type
    }

    /// `x-kubernetes-list-map-keys`.
    pub fn list_map_keys(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.asked.list_map_keys.into_iter().flat_map(|keys| keys.split(','))
    }

    /// True when server-side apply replaces this map or object as one.
    pub fn is_atomic_map(&self) -> bool {
        self.asked.map_type == Some("atomic")
    }

    /// `x-kubernetes-map-type`.
    pub fn map_type(&self) -> Option<&'static str> {
        self.asked.map_type
    }

    /// `x-kubernetes-patch-strategy` as written, such as `merge,retainKeys`.
    pub fn patch_strategy(&self) -> Option<&'static str> {
        self.asked.patch_strategy
    }

    /// True when a strategic merge patch merges this list.
    pub fn merges(&self) -> bool {
        self.has_strategy("merge")
    }

    /// True when a strategic merge patch replaces the value as one.
    pub fn replaces(&self) -> bool {
        self.has_strategy("replace")
    }

    fn has_strategy(&self, name: &str) -> bool {
        self.patch_strategy().is_some_and(|all| all.split(',').any(|one| one == name))
    }

    /// `x-kubernetes-patch-merge-key`.
    pub fn patch_merge_key(&self) -> Option<&'static str> {
        self.asked.patch_merge_key
    }

    /// Go's type when it does not follow from the shape, such as `v1.DNSPolicy`.
    pub fn go_type(&self) -> Option<&'static str> {
        self.asked.go_type
    }

    /// Go's names of the inlined structs around the field, joined by dots, such as `VolumeSource`.
    pub fn inlined_in(&self) -> Option<&'static str> {
        self.asked.inlined_in
    }

    /// Protobuf field numbers from the type down to the field (more than one where Go inlines a struct that is a
    /// message of its own), and the wire type: `b` length-delimited, `v` varint, `d` fixed64, `f` fixed32.
    pub fn protobuf(&self) -> Option<(impl Iterator<Item = u32> + use<>, char)> {
        let wire = self.protobuf.chars().next_back()?;
        let numbers = self.protobuf[..self.protobuf.len() - 1].split('.');
        Some((numbers.filter_map(|number| number.parse().ok()), wire))
    }

    fn fact(&self, key: &str) -> Option<&'static str> {
        fact(self.facts, key)
    }
}

fn fact(facts: &'static str, key: &str) -> Option<&'static str> {
    if facts.is_empty() {
        return None;
    }
    facts.split('\t').find_map(|word| word.strip_prefix(key))
}
