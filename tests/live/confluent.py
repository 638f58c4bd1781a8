"""Confluent's own serializers on one side of a topic, as a witness outside: what they write and what they read.

    confluent.py write avro|protobuf TOPIC        makes 100 keys and values
    confluent.py read avro|protobuf TOPIC N       prints N records as JSON lines, in the order of their offsets

Takes the addresses from SMACK_KAFKA and SMACK_REGISTRY.
"""
import datetime
import decimal
import json
import os
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, StringSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format, timestamp_pb2

# Not asked of the registry, as the default is: not every one has an answer.
SUBJECT = {"subject.name.strategy": topic_subject_name_strategy}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
FIRST = {"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "int"},
    {"name": "name", "type": "string"},
    {"name": "gone", "type": {"type": "map", "values": "long"}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "at", "type": MILLIS},
    {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
    {"name": "tags", "type": {"type": "array", "items": "string"}}]}
# The field before became a long, one is there no longer, and one is new.
SECOND = {**FIRST, "fields": [
    {"name": "id", "type": "long"}, *FIRST["fields"][1:2], *FIRST["fields"][3:],
    {"name": "address", "default": None, "type": ["null", {"type": "record", "name": "Address", "fields": [
        {"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "int"]}]}]}]}

FILE = """
name: "order.proto" package: "shop" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
message_type { name: "Unused" field { name: "x" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL } }
message_type { name: "Order"
  field { name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "name" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "at" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
  field { name: "state" number: 4 type: TYPE_ENUM type_name: ".shop.State" label: LABEL_OPTIONAL }
  field { name: "tags" number: 5 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "address" number: 6 type: TYPE_MESSAGE type_name: ".shop.Order.Address" label: LABEL_OPTIONAL }
  nested_type { name: "Address" field { name: "city" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
}
enum_type { name: "State" value { name: "NEW" number: 0 } value { name: "PAID" number: 1 } }
"""


def registry():
    return SchemaRegistryClient({"url": os.environ["SMACK_REGISTRY"]})


def order_class():
    pool = descriptor_pool.DescriptorPool()
    times = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(times)
    pool.Add(times)
    pool.Add(text_format.Parse(FILE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def order(n):
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=1500 * n)
    return {"id": n, "name": f"näme {n}", "gone": {"k": n}, "price": decimal.Decimal(n * 7 - 300).scaleb(-2), "at": at,
            "state": "PAID" if n % 3 else "NEW", "tags": [f"t{i}" for i in range(n % 4)],
            "address": None if n % 2 else {"city": "Zürich", "zip": None if n % 5 else n}}


def write(kind, topic):
    client = registry()
    producer = Producer({"bootstrap.servers": os.environ["SMACK_KAFKA"]})
    if kind == "avro":
        serializers = [AvroSerializer(client, json.dumps(schema), conf=SUBJECT) for schema in (FIRST, SECOND)]
    else:
        order_of = order_class()
        serializer = ProtobufSerializer(order_of, client, {"use.deprecated.format": False, **SUBJECT})
    value, key = SerializationContext(topic, MessageField.VALUE), StringSerializer()
    for n in range(100):
        row = order(n)
        if kind == "avro":
            # The schemas take turns, so that both are in one batch.
            serialized = serializers[n // 2 % 2](row, value)
        else:
            message = order_of(id=n, name=row["name"], state=int(row["state"] == "PAID"), tags=row["tags"])
            message.at.FromDatetime(row["at"].replace(tzinfo=None))
            if row["address"]:
                message.address.city = row["address"]["city"]
            serialized = serializer(message, value)
        producer.produce(topic, key=key(str(n)), value=serialized, partition=0)
    assert producer.flush(30) == 0


def plain(value):
    if isinstance(value, (decimal.Decimal, datetime.datetime, datetime.date, datetime.time)):
        return str(value)
    return value.hex() if isinstance(value, bytes) else repr(value)


def read(kind, topic, count):
    client = registry()
    consumer = Consumer({"bootstrap.servers": os.environ["SMACK_KAFKA"], "group.id": "witness", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    if kind == "avro":
        deserializers = [AvroDeserializer(client, conf=SUBJECT) for _ in "kv"]
    else:
        classes = [message_of(client, f"{topic}-{part}") for part in ("key", "value")]
        # Without the registry, which is asked for the writer's descriptor as bytes: Apicurio does not give those of a text.
        deserializers = [ProtobufDeserializer(of, {"use.deprecated.format": False}) for of in classes]
    fields = MessageField.KEY, MessageField.VALUE
    for _ in range(count):
        message = consumer.poll(30)
        assert message is not None and message.error() is None, message and message.error()
        parts = zip(deserializers, (message.key(), message.value()), fields)
        parts = [of(data, SerializationContext(topic, field)) for of, data, field in parts]
        if kind != "avro":
            parts = [json_format.MessageToDict(p, preserving_proto_field_name=True) if p is not None else None for p in parts]
        print(json.dumps({"key": parts[0], "value": parts[1]}, default=plain, sort_keys=True))


def message_of(client, subject):
    """The class of the message that the registry has; its text is compiled by protoc, a third implementation."""
    from grpc_tools import protoc
    import importlib.resources
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/m.proto", "w") as file:
            file.write(client.get_latest_version(subject).schema.schema_str)
        google = str(importlib.resources.files("grpc_tools") / "_proto")
        arguments = ["protoc", f"-I{folder}", f"-I{google}", "--include_imports", f"--descriptor_set_out={folder}/set", f"{folder}/m.proto"]
        assert protoc.main(arguments) == 0
        files = descriptor_pb2.FileDescriptorSet()
        with open(f"{folder}/set", "rb") as file:
            files.ParseFromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    last = files.file[-1]
    name = last.message_type[0].name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{last.package}.{name}" if last.package else name))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3])
    else:
        read(sys.argv[2], sys.argv[3], int(sys.argv[4]))
