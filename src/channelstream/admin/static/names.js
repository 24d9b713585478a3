/**
 * Texts of strangers, so that they cannot pass for others: what is invisible gets a mark, and what changes the direction
 * of writing does so inside of the text only.
 */

/**
 * Controls, direction marks and all else that is drawn as nothing; blanks other than a single one between characters.
 * A joiner after a letter of a script that needs it, or in an emoji, is no fault, nor is the selector of an emoji.
 */
const NEEDS_JOINER = String.raw`(?!\p{Script=Latin}|\p{Script=Greek}|\p{Script=Cyrillic}|\p{Script=Han})\p{L}|(?!\p{Script=Inherited})\p{M}|\p{Extended_Pictographic}|\p{Emoji_Modifier}`;
const HIDDEN = new RegExp(
  String.raw`(?<!${NEEDS_JOINER}|\uFE0F)[\u200C\u200D]|(?<!\p{Extended_Pictographic})\uFE0F` +
    String.raw`|(?![\u200C\u200D\uFE0F])[\p{Cc}\p{Cn}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\uFFF9-\uFFFB]` +
    String.raw`|(?! )\p{Zs}|^ +| +$|(?<= ) +`,
  "gu",
);

const code = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const codes = (text) => [...text].map(code).join(" ");

/** A name, or another text of a stranger, as an element. */
export function shown(text) {
  const name = document.createElement("bdi");
  let from = 0;
  for (const { 0: hidden, index } of text.matchAll(HIDDEN)) {
    const mark = document.createElement("span");
    mark.className = "hidden-mark";
    mark.textContent = codes(hidden);
    name.append(text.slice(from, index), mark);
    from = index + hidden.length;
  }
  name.append(text.slice(from));
  return name;
}

/** The same as a text, for the title of the window and for questions. */
export const plain = (text) => text.replace(HIDDEN, (hidden) => `[${codes(hidden)}]`);
