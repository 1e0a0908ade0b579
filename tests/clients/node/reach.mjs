// Whether Node's own fetch gets there.
let answer;
const error = await caught(async () => {
  answer = await fetch(given.url);
});
tell({ error, status: answer?.status });
