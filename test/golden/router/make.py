"""Makes the sequence classifiers that the tests of bring-your-own routers use, and what transformers says of some prompts.

    pip install torch==2.8.0 transformers==4.57.6 onnx==1.23.2 onnxruntime==1.32.0
    python make.py                 # the files beside this one
    python make.py --full-size DIR # a model of MiniLM-L6's size and random weights, to measure what an isolate holds (docs/router.md)

The small one is a BERT of two layers, trained for a moment on made-up sentences of three kinds, exported as Optimum does (`onnx/model.onnx`) and with its weights
in int8 (`onnx/model_quantized.onnx`). Its probabilities are PyTorch's for the first, and ONNX Runtime's (CPU, Python) for the second.
"""

import argparse
import json
import random
from pathlib import Path

import numpy
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

SEED = 7
HERE = Path(__file__).parent
LABELS = ["chat", "legal", "medical"]
MAX_TOKENS = 24

WORDS = {
    "chat": ["hello", "weather", "weekend", "movie", "thanks", "friend", "coffee", "holiday", "joke", "music"],
    "legal": ["contract", "clause", "court", "liability", "tenant", "lawsuit", "statute", "appeal", "damages", "lease"],
    "medical": ["fever", "dosage", "symptom", "patient", "surgery", "vaccine", "diagnosis", "blood", "allergy", "nurse"],
}
FILLERS = "what is the of a my does how can you please tell me about and to in for with this".split()
PROMPTS = [
    "What does the liability clause of my lease mean?",
    "Is this dosage safe for a patient with fever?",
    "Hello my friend, how is the weather?",
    "Crème brûlée & coffee — «naïve» holidays…",
    "法院 contract 合同 ５ ﬁ ½ 👩‍⚕️ vaccine",
    "Сколько стоит lawsuit?\tТысяча\u00a0рублей\u200b",
    "?",
    " \n\t",
    "[SEP] court [MASK] court [CLS]",
    "the symptom of the allergy " * 40,
    "a" * 150 + " nurse",
]


def sentence(label, rng):
    words = [rng.choice(FILLERS) for _ in range(rng.randint(3, 10))]
    for _ in range(rng.randint(1, 2)):
        words.insert(rng.randrange(len(words) + 1), rng.choice(WORDS[label]))
    return " ".join(words)


def word_piece():
    rng = random.Random(SEED)
    corpus = [sentence(label, rng) for label in LABELS for _ in range(300)] + PROMPTS
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False))
    cls, sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]", cls_token="[CLS]", mask_token="[MASK]"
    )


def byte_level():
    """As RoBERTa's."""
    rng = random.Random(SEED)
    corpus = [sentence(label, rng) for label in LABELS for _ in range(300)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=420, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(sep=("</s>", 2), cls=("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", sep_token="</s>", pad_token="<pad>", cls_token="<s>")


def encode(tokenizer, text):
    return tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]


def train(tokenizer):
    torch.manual_seed(SEED)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=32,
            initializer_range=0.2,
            hidden_dropout_prob=0.0,
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
            attn_implementation="eager",
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rng = random.Random(SEED)
    for _ in range(150):
        targets = [rng.randrange(len(LABELS)) for _ in range(32)]
        batch = tokenizer([sentence(LABELS[t], rng) for t in targets], padding=True, return_tensors="pt")
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        model(**inputs, labels=torch.tensor(targets)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def export(model, folder):
    """As Optimum names inputs, outputs and axes; then weights in int8."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = torch.tensor([[2, 5, 6, 3]])
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in inputs} | {"logits": {0: "batch_size"}}
    torch.onnx.export(
        model,
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        folder / "model.onnx",
        input_names=inputs,
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    quantize_dynamic(folder / "model.onnx", folder / "model_quantized.onnx", weight_type=QuantType.QInt8)


def softmax(logits):
    powers = numpy.exp(logits - logits.max())
    return [round(float(p), 7) for p in powers / powers.sum()]


def run(session, ids):
    row = numpy.array([ids], dtype=numpy.int64)
    inputs = {"input_ids": row, "attention_mask": numpy.ones_like(row), "token_type_ids": numpy.zeros_like(row)}
    return softmax(session.run(["logits"], inputs)[0][0].astype(numpy.float64))


def make_fixture():
    tokenizer, bytes_tokenizer = word_piece(), byte_level()
    model = train(tokenizer)
    export(model, HERE / "onnx")
    model.config.to_json_file(HERE / "config.json")
    tokenizer.backend_tokenizer.save(str(HERE / "tokenizer.json"))
    bytes_tokenizer.backend_tokenizer.save(str(HERE / "byte-level.json"), pretty=False)
    quantised = onnxruntime.InferenceSession(HERE / "onnx/model_quantized.onnx", providers=["CPUExecutionProvider"])
    cases = []
    for text in PROMPTS:
        ids = encode(tokenizer, text)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
        cases.append(
            {
                "text": text,
                "ids": ids,
                "byteLevelIds": encode(bytes_tokenizer, text),
                "probabilities": softmax(logits),
                "quantised": run(quantised, ids),
            }
        )
    golden = {"labels": LABELS, "maxTokens": MAX_TOKENS, "cases": cases}
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n")
    for case in cases:
        print(len(case["ids"]), case["probabilities"], case["quantised"], ascii(case["text"][:40]))


def make_full_size(folder):
    """MiniLM-L6's shape, with a vocabulary of as many made-up words."""
    torch.manual_seed(SEED)
    shape = dict(vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1_536)
    config = BertConfig(**shape, id2label=dict(enumerate(LABELS)), attn_implementation="eager")
    export(BertForSequenceClassification(config).eval(), folder / "onnx")
    (folder / "onnx/model.onnx").unlink()
    config.to_json_file(folder / "config.json")
    rng = random.Random(SEED)
    tokenizer = json.loads((HERE / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    while len(vocab) < config.vocab_size:
        word = "".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randint(3, 9)))
        vocab.setdefault(("##" if rng.random() < 0.2 else "") + word, len(vocab))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2))


arguments = argparse.ArgumentParser()
arguments.add_argument("--full-size", type=Path, metavar="DIR")
full_size = arguments.parse_args().full_size
make_fixture() if full_size is None else make_full_size(full_size)
