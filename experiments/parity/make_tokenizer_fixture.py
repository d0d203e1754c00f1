#!/usr/bin/env python3
"""Writes tests/data/tokenizer/smollm2_{cases,chat}.json: texts and conversations, and the ids they must get.

The reference is built by hand from the GGUF file's vocabulary and merges. `transformers` builds this file's
tokenizer with ByteLevel alone, which is wrong: the pre-tokenizer "smollm" splits off every digit first, so the
reference uses Sequence[Digits(individual), ByteLevel(add_prefix_space=False)].

    python3 experiments/parity/make_tokenizer_fixture.py MODEL.gguf tests/data/tokenizer

Conversations are rendered by running the file's own chat template. Needs the packages `tokenizers`, `gguf` and
`jinja2` (written with 0.23.3, 0.19.0 and 3.1). Deterministic.
"""

import json
import random
import sys

from gguf import GGUFReader
from jinja2 import Environment
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL = 3


def reference(path):
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False)
                            for t, k in zip(tokens, kinds) if k == CONTROL])
    return tok


SENTENCES = [
    # Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Bengali, Tamil, Thai, Han, Kana, Hangul, Georgian,
    # Armenian, Amharic, Khmer: the first article of the Universal Declaration of Human Rights, more or less.
    "All human beings are born free and equal in dignity and rights.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İIıi",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "תמام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกันในศักดิ์ศรีและสิทธิ",
    "人人生而自由,在尊严和权利上一律平等。",
    "人人生而自由,在尊嚴和權利上一律平等。",
    "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար՝ իրենց արժանապատվությամբ ու իրավունքներով։",
    "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាព។",
]

EDGES = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n\n", " \n ", "\t\t x", "a ", " a", "  a", "a  b", "a   b", "a\n\nb",
    "a \n b", " " * 7, " " * 64 + "x", "x" + " " * 65, "\n" * 33, "\u00a0", "a\u00a0b", "\u00a0\u00a0x", "\u2003x",
    "a\u2028b\u2029c", "\u3000\u3000全角", "\u1680x", "\u180ex", " \u180e y", "\u200bzero\u200bwidth", "\ufeffbom",
    "\u0085next\u0085line", "a\u0085 b", "\x0b\x0c\x1c\x1d\x1e\x1f", "\x00", "a\x00b", "\x00\x00\x00", "\x01\x02\x03\x7f",
    "\x1b[31mred\x1b[0m", "".join(chr(c) for c in range(32)), "".join(chr(c) for c in range(127, 161)),
    "0", "7", "12", "123", "1234567890", "0" * 100, "3.14159265358979323846", "1,000,000.00", "2026-11-22T07:26:59Z",
    "a1b2c3", "x86_64", "1st 2nd 3rd", " 1", "  1", "1  ", "1 2 3", "12 34", "word 42", "word  42", "a  1", "٠١٢٣٤٥٦٧٨٩",
    "१२३", "一二三", "½ ¼ ¾", "x² y³", "Ⅷ ⅷ", "①②③", "1️⃣2️⃣", "𝟘𝟙𝟚", "٣ ٤", "0x1F600", "1e-5", "-273.15", "$100", "100€",
    "don't", "DON'T", "I'm we're they've he'll she'd it's", "'s", "''s", "'S", "'t't", "rock'n'roll", "l'été", "’s ’t",
    "!", "!!", "?!?!", "...", "…", "—", "a—b", "a-b", "a--b", "--long-option=value", "#include <stdio.h>",
    "int main(void) { return 0; }", "for (;;) {\n\t++i;\n}", "def f(x):\n    return x * 2\n", "<a href=\"x\">y</a>",
    "https://example.org/a/b?c=d&e=f#g", "user@example.org", "C:\\Windows\\System32", "/usr/share/doc", "$HOME/.bashrc",
    "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "<|im_start", "|im_end|>", "<repo_name>x<file_sep>y",
    "<|im_start|><|im_end|>", "a<|im_end|>b", "<empty_output>", "<|IM_START|>", "<<|im_end|>>",
    "😀", "😀😀😀", "a😀b", " 😀 ", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇪🇸", "🧑🏿‍🚀 to the 🌕", "☺️☹", "✊🏻✊🏿", "❤️‍🔥",
    "🫠🫨", "e\u0301", "é", "n\u0303o", "Z\u0351\u036b\u0343a\u0322l\u0334g\u0340o", "\u0301", "a\u0300\u0301\u0302\u0303",
    "A\u030a Å Å", "ﬁ ﬂ ﬃ", "ſtraße STRASSE ß ẞ", "ĳ Ĳ ǆ", "İstanbul ıstanbul", "Σίσυφος ΣΊΣΥΦΟΣ", "кириллица\u0301",
    "\u202eRTL override\u202c", "\u2066isolate\u2069", "abc \u05d0\u05d1\u05d2 123 def", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 123",
    "می‌خواهم", "क्‍ष", "నమస్కారం", "ᚠᛇᚻ", "𐍈𐌰", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱𠝹", "ᠮᠣᠩᠭᠣᠯ", "꧋ꦥꦿ", "⠓⠑⠇⠇⠕", "\U000e0001\U000e0041",
    "\ufffd", "\ufffe\uffff", "\ue000\uf8ff", "\U0010ffff", "\U0001f9ff\u200d", "ÿþ", "Ã©", "â\x80\x99", "naïve café",
    "x" * 1000, "ab" * 500, "aaaa " * 100, "the " * 200, "日本" * 200, "-" * 200, "=" * 79, "." * 127, "_" * 33,
    "CamelCaseIdentifierWithManyWords", "snake_case_identifier_with_many_words", "SCREAMING_CASE", "kebab-case-name",
    "supercalifragilisticexpialidocious", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "NAME\n       ls - list directory contents\n\nSYNOPSIS\n       ls [OPTION]... [FILE]...\n",
    "BEZEICHNUNG\n       ls - Verzeichnisinhalte auflisten\n", "NOM\n       ls — Afficher le contenu de répertoires\n",
    "{\"a\": [1, 2.5, null, true], \"b\": \"\\u00e9\"}", "| a | b |\n|---|---|\n| 1 | 2 |\n", "\\begin{equation} E = mc^2",
    "SELECT * FROM t WHERE x = 'y''z';", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋", "∑_{i=1}^n i = n(n+1)/2", "→ ⇒ ↔ ≤ ≥ ≠ ≈", "©®™§¶†‡",
    "“quoted” ‘single’ «guillemets» „low“", "100%", "5 °C", "µm Ωm", "№ 5", "a/b\\c|d", "  leading and trailing  ",
]


def mixtures(count):
    """Random strings over a fixed alphabet of awkward characters, and random code points."""
    rng = random.Random(20240611)
    alphabet = ["a", "Z", "é", "ß", "я", "ع", "中", "か", "한", "1", "٢", "²", " ", "  ", "\n", "\t", "'", "'s", "'re", ".",
                "!", "-", "_", "\u00a0", "\u200d", "\u0301", "😀", "👩", "\u2028", "\x00", "\x7f", "<|im_end|>", "ing", "the"]
    for _ in range(count):
        yield "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))
    # Assigned in Unicode 6 or before, so that every library's tables agree on the categories.
    ranges = [(0x20, 0x7e), (0xa0, 0x24f), (0x370, 0x3ff), (0x400, 0x4ff), (0x5d0, 0x5ea), (0x620, 0x64a), (0x905, 0x939),
              (0x4e00, 0x4fff), (0x3041, 0x3096), (0xac00, 0xacff), (0x1f600, 0x1f640), (0x2200, 0x22ff)]
    for _ in range(count):
        out = []
        for _ in range(rng.randrange(1, 30)):
            lo, hi = rng.choice(ranges)
            c = chr(rng.randint(lo, hi))
            out.append(c if c.isprintable() else "?")
        yield "".join(out)


CONVERSATIONS = [
    [("user", "Hello"), ("assistant", "Hi! How can I help?")],
    [("system", "You are terse."), ("user", "2+2?"), ("assistant", "4")],
    [("user", "Wie spät ist es?\n"), ("assistant", "Es ist 12:34 Uhr. 😀"), ("user", " Danke!  "), ("assistant", "Bitte.")],
    [("system", ""), ("user", "\n\nx"), ("assistant", "y\n")],
    [("user", "日本語で"), ("assistant", "はい、123。"), ("tool", "{\"a\": 1}"), ("assistant", "done")],
]


def chat_cases(tok, template):
    # As Hugging Face runs templates: blocks' own newlines are trimmed.
    jinja = Environment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    for turns in CONVERSATIONS:
        messages = [{"role": r, "content": c} for r, c in turns]
        text = jinja.render(messages=messages, add_generation_prompt=False)
        yield {"messages": messages, "ids": tok.encode(text, add_special_tokens=False).ids}


def write(path, cases):
    with open(path, "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(f"{path}: {len(cases)} cases, {sum(len(c['ids']) for c in cases)} tokens")


def main():
    model, folder = sys.argv[1:]
    tok = reference(model)
    cases = []
    for text in SENTENCES + EDGES + [s.upper() for s in SENTENCES[:6]] + list(mixtures(60)):
        tok.encode_special_tokens = True
        plain = tok.encode(text, add_special_tokens=False).ids
        tok.encode_special_tokens = False
        special = tok.encode(text, add_special_tokens=False).ids
        case = {"text": text, "ids": plain}
        if special != plain:
            case["ids_with_special"] = special
        cases.append(case)
    write(f"{folder}/smollm2_cases.json", cases)
    template = GGUFReader(model).fields["tokenizer.chat_template"].contents()
    write(f"{folder}/smollm2_chat.json", list(chat_cases(tok, template)))


if __name__ == "__main__":
    main()
