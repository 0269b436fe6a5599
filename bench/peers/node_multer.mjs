// Media as a Node server is usually given them: Express, multer writing each chunk to a file, res.sendFile for downloads.
//
//   MEDIA_DIR=… SYNC=1 node node_multer.mjs PORT
//
// With SYNC a chunk is answered when it is on the disk, as Orbital's is; without, when the kernel has it.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import express from 'express';
import multer from 'multer';

const folder = process.env.MEDIA_DIR;
const app = express();
const chunks = multer({
  storage: multer.diskStorage({ destination: folder, filename: (_request, _file, done) => done(null, `${Date.now()}-${Math.random()}`) }),
  limits: { fileSize: 5 * 1024 * 1024 },
});

app.post('/api/media/upload', chunks.single('chunk'), async (request, response) => {
  if (process.env.SYNC) {
    const file = await open(request.file.path, 'r+');
    await file.sync();
    await file.close();
  }
  const { media_id, chunk_index, total_chunks } = request.body;
  response.json({ media_id, chunk_index: Number(chunk_index), total_chunks: Number(total_chunks), size: request.file.size });
});

app.get('/file', (_request, response) => response.sendFile(join(folder, 'file')));

app.listen(Number(process.argv[2]), '127.0.0.1');
