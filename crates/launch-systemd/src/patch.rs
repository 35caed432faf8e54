use std::collections::HashMap;

use serde_json::Value;
use zbus::{Array, Signature, Structure, Variant};

/// The types of properties, by their names.
pub(crate) type Types = HashMap<String, Signature>;

/// Those that are in what the manager says of an object, which is XML without line breaks within elements.
pub(crate) fn types(described: &str) -> Types {
    let attribute = |element: &str, name: &str| {
        let (_, rest) = element.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let properties = described.split("<property").skip(1);
    let types = properties.filter_map(|element| {
        let type_ = attribute(element, "type")?;
        Some((attribute(element, "name")?, Signature::try_from(type_.as_str()).ok()?))
    });
    types.collect()
}

/// A value in JSON as one of D-Bus of that type; none where it is not one.
pub(crate) fn typed(type_: &Signature, value: &Value) -> Option<Variant<'static>> {
    Some(match type_ {
        Signature::Bool => Variant::Bool(value.as_bool()?),
        Signature::U8 => Variant::U8(value.as_u64()?.try_into().ok()?),
        Signature::I32 => Variant::I32(value.as_i64()?.try_into().ok()?),
        Signature::U32 => Variant::U32(value.as_u64()?.try_into().ok()?),
        Signature::I64 => Variant::I64(value.as_i64()?),
        // To systemd the highest number is no limit.
        Signature::U64 if value == "infinity" => Variant::U64(u64::MAX),
        Signature::U64 => Variant::U64(value.as_u64()?),
        Signature::F64 => Variant::F64(value.as_f64()?),
        Signature::Str => Variant::from(value.as_str()?.to_owned()),
        Signature::Array(element) => {
            let mut array = Array::new(element.signature());
            for value in value.as_array()? {
                array.append(typed(element.signature(), value)?).ok()?;
            }
            Variant::Array(array)
        }
        Signature::Structure(fields) => {
            let values = value.as_array().filter(|values| values.len() == fields.iter().count())?;
            let mut structure = Structure::builder();
            for (type_, value) in fields.iter().zip(values) {
                structure.push_value(typed(type_, value)?);
            }
            Variant::Structure(structure.build().ok()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_gets_the_type_that_the_manager_says() {
        let types = types(concat!(
            "<interface name=\"x\">\n  <property name=\"Nice\" type=\"i\" access=\"read\">\n  </property>\n",
            "  <property name=\"IOWeight\" type=\"t\" access=\"read\"/>\n",
            "  <property name=\"BindPaths\" type=\"a(ssbt)\" access=\"read\"/>\n <method name=\"Kill\"/>"
        ));
        assert_eq!(types.len(), 3);
        let typed = |name: &str, value: Value| typed(&types[name], &value).map(|value| value.to_string());
        assert_eq!(typed("Nice", (-5).into()).as_deref(), Some("-5"));
        assert_eq!(typed("IOWeight", 50.into()).as_deref(), Some("uint64 50"));
        assert_eq!(typed("IOWeight", "infinity".into()).as_deref(), Some("uint64 18446744073709551615"));
        let paths = serde_json::json!([["/a", "/b", true, 0]]);
        assert_eq!(typed("BindPaths", paths).as_deref(), Some("[(\"/a\", \"/b\", true, uint64 0)]"));
        for (name, bad) in [("Nice", Value::from("low")), ("IOWeight", (-1).into()), ("BindPaths", 1.into())]
        {
            assert_eq!(typed(name, bad), None);
        }
    }
}
